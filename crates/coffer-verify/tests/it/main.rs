//! Vaults made by a small writer of their own, damaged in every way, and what the verifier says about them.

#![expect(clippy::unwrap_used, reason = "what fails to be made here fails the test")]

mod damage;
mod deep;
mod faults;
mod keyless;
mod lies;
mod support;
