//! Vaults in buckets of the simulated region: what a store can do, and what follows from it.

mod cold;
mod conformance;
mod desk;
mod estimates;
mod fitness;
mod locks;
mod modes;
mod own;
mod permissions;
mod stores;
mod ways;
