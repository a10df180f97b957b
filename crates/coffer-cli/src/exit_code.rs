//! Every exit code of the program; `docs/cli.md` lists them for users. They are stable.

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed; nothing was acknowledged.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// Done, but not everything could be taken or restored.
    Partial = 3,
    /// There is no vault at the location.
    NoVault = 10,
    /// The record could not be committed.
    CannotCommit = 11,
    /// No key, or none that opens the vault.
    WrongKey = 12,
    /// Verification found damaged objects.
    Corrupt = 20,
    /// Verification found that objects are missing.
    Missing = 21,
    /// Verification found objects that do not belong there, and nothing worse.
    Surplus = 22,
    /// The log is older than one seen before, or another one.
    Rollback = 23,
    /// Everything asked for was restored, but the vault is damaged.
    Degraded = 24,
    /// What is needed is archived; come back when it was brought back.
    Archived = 25,
    /// Locks end sooner than they must.
    LocksExpire = 26,
    /// The store, or the service that knows who may use it, does not let us in.
    NoAccess = 30,
    /// The store cannot be reached.
    Unreachable = 31,
    /// What answers is not the store that was meant.
    WrongStore = 32,
    /// The user stopped it.
    Interrupted = 130,
    /// Whoever read standard output has stopped: as a process that `SIGPIPE` ends.
    Unread = 141,
}

impl Exit {
    /// The word for it in JSON.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Partial => "partial",
            Self::NoVault => "no_vault",
            Self::CannotCommit => "cannot_commit",
            Self::WrongKey => "wrong_key",
            Self::Corrupt => "corrupt",
            Self::Missing => "missing",
            Self::Surplus => "surplus",
            Self::Rollback => "rollback",
            Self::Degraded => "degraded",
            Self::Archived => "archived",
            Self::LocksExpire => "locks_expire",
            Self::NoAccess => "no_access",
            Self::Unreachable => "unreachable",
            Self::WrongStore => "wrong_store",
            Self::Interrupted => "interrupted",
            Self::Unread => "unread",
        }
    }
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
