//! An independent reader of the format that proves a vault intact.
