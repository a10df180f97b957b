//! A vault on object storage over real HTTP with real signatures, and over networks that behave badly.

mod appending;
mod cloud;
mod faults;
mod lost_header;
mod oldest;
mod parts;
mod replicas;
mod requests;
mod writers;
