//! The store on S3, against a server over real HTTP with real signatures, and against one that answers what it is told.

mod clocks;
mod cloud;
mod errors;
mod listings;
mod objects;
mod regions;
mod scripted;
mod server;
mod tls;
mod transfers;
mod uploads;
