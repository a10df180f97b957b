//! Journeys through the product. One binary, a module for each journey.

#![expect(clippy::unwrap_used, reason = "a test that fails shows where")]

mod cli;
mod compat;
mod cost;
mod crash;
mod damage;
mod faults;
mod model;
mod race;
mod restore;
mod support;
