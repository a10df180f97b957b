//! The root keys of a run: each is read, asked for and made ready once, however often a command wants it. So a person is asked once, and a
//! token of IAM is fetched once. (That a refused PIN is not sent again is seen to by the memory that all keys on tokens share.)

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use anyhow::Result;
use coffer_ibm::{KeyServices, ServiceRoot};
use coffer_keys::{AnyOf, RootKey};

use crate::command_error::Failure;
use crate::exit_code::Exit;
use crate::key_service::KeyServiceSettings;
use crate::keys::KeySource;
use crate::output::Output;
use crate::passphrase::Passphrases;
use crate::pkcs11::Pkcs11Args;
use crate::process;
use crate::storage::Storage;
use crate::writer;

const PROMPT: &str = "Passphrase of the vault: ";

/// What opens the vault, as it is given; or the person at the terminal.
pub(crate) struct RootKeys {
    output: Output,
    sources: Vec<(KeySource, OnceLock<Arc<dyn RootKey>>)>,
    /// The credential to back up with, in the place of keys.
    writer: Option<PathBuf>,
    passphrases: Passphrases,
    pkcs11: Pkcs11Args,
    settings: KeyServiceSettings,
    token: OnceLock<Option<Arc<dyn RootKey>>>,
    services: OnceLock<Arc<KeyServices>>,
    /// The passphrase that the terminal gave.
    asked: OnceLock<Arc<dyn RootKey>>,
}

impl RootKeys {
    pub(crate) fn new(
        output: Output,
        sources: Vec<KeySource>,
        writer: Option<PathBuf>,
        passphrases: Passphrases,
        pkcs11: Pkcs11Args,
        settings: KeyServiceSettings,
    ) -> Self {
        let sources = sources.into_iter().map(|source| (source, OnceLock::new())).collect();
        let (token, services, asked) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { output, sources, writer, passphrases, pkcs11, settings, token, services, asked }
    }

    /// Says where keys come from.
    pub(crate) fn tell(&self) {
        match &self.writer {
            Some(path) => self.output.note(&format!("key: writer credential {}", path.display())),
            None if self.sources.is_empty() => self.output.note("key: none given"),
            None => {
                self.sources.iter().for_each(|(source, _)| self.output.note(&format!("key: {source}")));
            }
        }
    }

    pub(crate) fn writer(&self) -> Option<&Path> {
        self.writer.as_deref()
    }

    pub(crate) const fn passphrases(&self) -> Passphrases {
        self.passphrases
    }

    pub(crate) const fn pkcs11(&self) -> &Pkcs11Args {
        &self.pkcs11
    }

    /// Whether any key is given, or anything to ask others for one.
    pub(crate) fn is_given(&self, storage: &Storage) -> bool {
        !self.sources.is_empty() || self.pkcs11.is_given() || self.settings.is_given(storage)
    }

    /// Whether key services alone were tried, and only because there are credentials that may be for something else.
    pub(crate) fn are_services_alone(&self, storage: &Storage) -> bool {
        self.sources.is_empty() && self.settings.is_given(storage)
    }

    /// The key services, in the name of whoever is given.
    pub(crate) fn services(&self, storage: &Storage) -> Result<Arc<KeyServices>> {
        once(&self.services, || self.settings.services(storage))
    }

    /// As [`Self::any_given`]; if nothing is given, the terminal is asked for a passphrase.
    pub(crate) fn any(&self, storage: &Storage) -> Result<Arc<dyn RootKey>> {
        self.any_given(storage)?.map_or_else(|| self.ask(), Ok)
    }

    /// What is given, as one: each is tried. One that cannot be read is warned of while there are others.
    pub(crate) fn any_given(&self, storage: &Storage) -> Result<Option<Arc<dyn RootKey>>> {
        let (mut roots, mut failures) = (Vec::new(), Vec::new());
        for root in self.given(storage)? {
            match root {
                Ok(root) => roots.push(root),
                Err(error) => failures.push(error),
            }
        }
        match (roots.len(), failures.len()) {
            (0, 0) => Ok(None),
            (0, _) => Err(failures.swap_remove(0)),
            _ => {
                // Another key may do.
                failures.iter().for_each(|failure| self.output.warn(&format!("{failure:#}")));
                Ok(Some(Arc::new(AnyOf::new(roots))))
            }
        }
    }

    /// What is given, each for itself, and the key services as one; what cannot be read is an error. If nothing is given, the terminal is
    /// asked for a passphrase.
    pub(crate) fn each(&self, storage: &Storage) -> Result<Vec<Arc<dyn RootKey>>> {
        let roots: Vec<_> = self.given(storage)?.into_iter().collect::<Result<_>>()?;
        if roots.is_empty() { Ok(vec![self.ask()?]) } else { Ok(roots) }
    }

    /// The keys that are at hand, each for itself: those that nobody else has to be asked for.
    pub(crate) fn at_hand(&self) -> Result<Vec<Arc<dyn RootKey>>> {
        self.check_writer()?;
        self.sources.iter().map(|source| self.read(source)).collect()
    }

    /// The passphrase that is given, or else the terminal gives.
    pub(crate) fn passphrase(&self) -> Result<Arc<dyn RootKey>> {
        self.check_writer()?;
        match self.sources.iter().find(|(source, _)| source.is_passphrase()) {
            Some(source) => self.read(source),
            None if process::has_terminal() => self.ask(),
            None => {
                let hint = "give the old one with --passphrase-file FILE or --passphrase-command COMMAND; a slot for another key is replaced by \
                    `coffer keys add` and `coffer keys revoke`";
                Err(Failure::usage("the passphrase that is to be replaced is not given").hint(hint).into())
            }
        }
    }

    /// Asks the terminal for the passphrase of the vault.
    pub(crate) fn ask(&self) -> Result<Arc<dyn RootKey>> {
        if !process::has_terminal() {
            return Err(none_given().into());
        }
        once(&self.asked, || Ok(Arc::new(self.passphrases.ask(PROMPT)?)))
    }

    /// Everything that is given, with what the terminal gave already, and what came of reading it.
    fn given(&self, storage: &Storage) -> Result<Vec<Result<Arc<dyn RootKey>>>> {
        self.check_writer()?;
        let mut roots: Vec<_> = self.sources.iter().map(|source| self.read(source)).collect();
        let token = || {
            let key = self.pkcs11.root_key()?;
            Ok(key.map(|key| -> Arc<dyn RootKey> { Arc::new(key) }))
        };
        roots.extend(once(&self.token, token).transpose());
        if self.settings.is_given(storage) {
            let services = self.services(storage);
            roots.push(services.map(|services| -> Arc<dyn RootKey> { Arc::new(ServiceRoot::any(services)) }));
        }
        roots.extend(self.asked.get().cloned().map(Ok));
        Ok(roots)
    }

    fn read(&self, (source, key): &(KeySource, OnceLock<Arc<dyn RootKey>>)) -> Result<Arc<dyn RootKey>> {
        once(key, || source.read(self.output, self.passphrases))
    }

    fn check_writer(&self) -> Result<()> {
        match &self.writer {
            Some(path) => Err(writer::refusal(path).into()),
            None => Ok(()),
        }
    }
}

/// That nothing is given to open a vault with, or to make one for.
pub(crate) fn none_given() -> Failure {
    Failure::new(Exit::WrongKey, "no key is given")
        .hint("give --key-file FILE, --passphrase-file FILE or --passphrase-command COMMAND")
}

/// What is in the cell, or else is made now, and kept if that succeeds.
fn once<T: Clone>(cell: &OnceLock<T>, make: impl FnOnce() -> Result<T>) -> Result<T> {
    if let Some(made) = cell.get() {
        return Ok(made.clone());
    }
    let made = make()?;
    Ok(cell.get_or_init(|| made).clone())
}
