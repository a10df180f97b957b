//! Journeys through the product. One binary, a module for each journey.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests fail where they stand, and say what they skip"
)]

mod backup;
mod checkpoint;
mod cli;
mod cloud;
mod compat;
mod cost;
mod crash;
mod damage;
mod epochs;
mod example;
mod faults;
mod foreign;
mod key_services;
mod kms;
mod model;
mod race;
mod reading;
mod replicas;
mod restore;
mod rounds;
mod s3;
mod support;
mod writers;
