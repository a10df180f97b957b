//! Vaults in buckets of the simulated region: what a store can do, and what follows from it.

mod checksums;
mod cold;
mod conformance;
mod counted;
mod desk;
mod estimates;
mod fitness;
mod locks;
mod modes;
mod overwritten;
mod own;
mod pending;
mod permissions;
mod regions;
mod same_name;
mod stores;
mod suspended;
mod tokens;
mod ways;
