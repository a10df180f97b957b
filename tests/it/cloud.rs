//! Vaults in buckets of the simulated region: what a store can do, and what follows from it.

mod cold;
mod desk;
mod estimates;
mod locks;
mod modes;
mod permissions;
mod stores;
mod ways;
