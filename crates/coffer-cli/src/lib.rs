//! The coffer command line.
