//! The simulated region over real HTTP, with requests written by hand: no client library makes them right on its own.

#![allow(clippy::unwrap_used, reason = "tests fail where they stand")]

mod archive;
mod buckets;
mod client;
mod iam;
mod kms;
mod listing;
mod locks;
mod multipart;
mod objects;
mod restart;
mod retention;
mod signed;
mod switches;
