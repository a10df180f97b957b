//! Jobs as a worker takes them: those whose frames lie side by side in a pack are fetched together.
//!
//! What all workers have fetched and not written yet is bounded by bytes, however many of them wait for a store that is far away.

use std::collections::VecDeque;

use crossbeam_channel::Receiver;

use super::writing::Piece;
use crate::pool::{Budget, Share};
use crate::read::{Packs, SealedFrame, Stretch};

/// The jobs of one worker. Of a store that is near, each frame is read when it is opened.
pub(super) struct Jobs<'q, 'v> {
    queue: &'q Receiver<Vec<Piece>>,
    packs: &'q Packs<'v>,
    budget: &'q Budget,
    /// Jobs whose frames were asked for, with those that came.
    fetched: VecDeque<(Vec<Piece>, Option<SealedFrame>)>,
    /// What these frames take of the budget.
    share: Option<Share<'q>>,
    /// A job that was taken from the queue and does not lie beside those before it.
    next: Option<Vec<Piece>>,
}

impl<'q, 'v> Jobs<'q, 'v> {
    pub(super) const fn new(
        queue: &'q Receiver<Vec<Piece>>,
        packs: &'q Packs<'v>,
        budget: &'q Budget,
    ) -> Self {
        Self { queue, packs, budget, fetched: VecDeque::new(), share: None, next: None }
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
        self.share = Some(self.budget.take(stretch.len()));
        // A frame that cannot be had this way is asked for by itself, and whoever does that learns what is wrong with it.
        let mut frames = self.packs.stretch(&stretch);
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
        // The frames that came last are written by now.
        self.share = None;
        let first = match self.next.take() {
            Some(job) => job,
            None => self.queue.recv().ok()?,
        };
        // What is near is read as it is opened.
        if !self.packs.are_far() {
            return Some((first, None));
        }
        self.fetch(first);
        Some(self.fetched.pop_front().unwrap_or_default())
    }
}
