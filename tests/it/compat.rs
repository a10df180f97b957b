//! Tests of compat.
