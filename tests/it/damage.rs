//! Damage: whatever happens to the objects of a vault is found, costs no more than what was damaged, and never makes a wrong file.

mod attacks;
mod objects;
mod site;
