//! Tests of cost.
