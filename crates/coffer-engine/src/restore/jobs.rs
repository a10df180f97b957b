//! Jobs as a worker takes them: those whose frames lie side by side in a pack are fetched together.

use std::collections::VecDeque;

use crossbeam_channel::Receiver;

use super::writing::Piece;
use crate::read::{Packs, SealedFrame, Stretch};

/// The jobs of one worker. Of a store that is near, each frame is read when it is opened.
pub(super) struct Jobs<'q, 'v> {
    queue: &'q Receiver<Vec<Piece>>,
    packs: &'q Packs<'v>,
    /// Jobs whose frames were asked for, with those that came.
    fetched: VecDeque<(Vec<Piece>, Option<SealedFrame>)>,
    /// A job that was taken from the queue and does not lie beside those before it.
    next: Option<Vec<Piece>>,
}

impl<'q, 'v> Jobs<'q, 'v> {
    pub(super) const fn new(queue: &'q Receiver<Vec<Piece>>, packs: &'q Packs<'v>) -> Self {
        Self { queue, packs, fetched: VecDeque::new(), next: None }
    }

    /// Fetches what a job needs, and with it what waiting jobs need from beside it. Nothing is waited for.
    fn fetch(&mut self, first: Vec<Piece>) {
        let Some(mut stretch) = first.first().map(|piece| Stretch::of(&piece.place)) else { return };
        let mut jobs = vec![first];
        while let Ok(job) = self.queue.try_recv() {
            if !job.first().is_some_and(|piece| stretch.take(&piece.place)) {
                self.next = Some(job);
                break;
            }
            jobs.push(job);
        }
        // A single frame is read as ever, and whoever reads it learns what is wrong with it.
        let mut frames = if jobs.len() > 1 { self.packs.stretch(&stretch) } else { Vec::new() };
        self.fetched.extend(jobs.into_iter().map(|job| {
            let place = job.first().map(|piece| piece.place);
            let found = frames.iter().position(|(known, _)| Some(*known) == place);
            (job, found.map(|at| frames.swap_remove(at).1))
        }));
    }
}

impl Iterator for Jobs<'_, '_> {
    type Item = (Vec<Piece>, Option<SealedFrame>);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(fetched) = self.fetched.pop_front() {
            return Some(fetched);
        }
        let first = match self.next.take() {
            Some(job) => job,
            None => self.queue.recv().ok()?,
        };
        if !self.packs.are_far() {
            return Some((first, None));
        }
        self.fetch(first);
        Some(self.fetched.pop_front().unwrap_or_default())
    }
}
