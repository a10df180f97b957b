//! Backup, restore and every other operation on a vault.
