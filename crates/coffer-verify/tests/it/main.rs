//! Vaults made by a small writer of their own, damaged in every way, and what the verifier says about them.

mod damage;
mod deep;
mod faults;
mod keyless;
mod lies;
mod support;
