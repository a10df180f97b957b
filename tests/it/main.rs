//! Journeys through the product. One binary, a module for each journey.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests fail where they stand, and say what they skip"
)]

mod backup;
mod checkpoint;
mod cli;
mod compat;
mod cost;
mod crash;
mod damage;
mod example;
mod faults;
mod model;
mod race;
mod reading;
mod restore;
mod support;
