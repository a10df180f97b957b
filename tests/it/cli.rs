//! The command as its users meet it: every form that scripts rely on, every exit code, every message.

mod desk;

mod commands;
mod commits;
mod damage;
pub(crate) mod documents;
mod interrupts;
mod keys;
pub(crate) mod messages;
mod pkcs11;
mod profiles;
mod reading;
mod recording;
mod settings;
mod slots;
mod snapshots;
mod sources;
mod space;
mod terminal;
mod verify;
mod writers;
