//! Reading without restoring: archives that other programs unpack, differences, searches.

mod archives;
mod differences;
mod searches;
