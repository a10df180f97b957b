//! Jobs as a worker takes them: those whose frames lie side by side in a pack are fetched together.
//!
//! What all workers have fetched and not written yet is bounded by bytes, however many of them wait for a store that is far away. Of a frame
//! that has several jobs, those that come while one has it share it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crossbeam_channel::Receiver;

use super::writing::Piece;
use crate::index::Place;
use crate::pool::{Budget, Share};
use crate::read::{Packs, SealedFrame, Stretch};

/// A frame that has several jobs, as long as anybody has it: a worker, or what it was opened with. Locked while it is fetched.
pub(super) type SharedFrame = Arc<Mutex<Weak<SealedFrame>>>;

/// Pieces of one frame that are written together.
#[derive(Default)]
pub(super) struct Job {
    pub(super) pieces: Vec<Piece>,
    /// The frame, if it has other jobs as well.
    pub(super) fetched: Option<SharedFrame>,
}

impl Job {
    fn place(&self) -> Option<Place> {
        self.pieces.first().map(|piece| piece.place)
    }
}

/// A job whose frame was asked for.
#[derive(Default)]
pub(super) struct Ready {
    pub(super) pieces: Vec<Piece>,
    /// The frame, if it came.
    pub(super) frame: Option<Arc<SealedFrame>>,
    /// Whether other jobs may want it.
    pub(super) is_shared: bool,
    /// Whether it was fetched for this job.
    pub(super) is_new: bool,
}

/// The jobs of one worker. Of a store that is near, each frame is read when it is opened.
pub(super) struct Jobs<'q, 'v> {
    queue: &'q Receiver<Job>,
    packs: &'q Packs<'v>,
    budget: &'q Budget,
    /// Jobs whose frames were asked for.
    ready: VecDeque<Ready>,
    /// What these frames take of the budget.
    share: Option<Share<'q>>,
    /// A job that was taken from the queue and does not lie beside those before it.
    next: Option<Job>,
}

impl<'q, 'v> Jobs<'q, 'v> {
    pub(super) const fn new(queue: &'q Receiver<Job>, packs: &'q Packs<'v>, budget: &'q Budget) -> Self {
        Self { queue, packs, budget, ready: VecDeque::new(), share: None, next: None }
    }

    /// Fetches what a job needs, and with it what waiting jobs need from beside it. Nothing is waited for.
    fn fetch(&mut self, first: Job) {
        let Some(place) = first.place() else { return };
        let mut stretch = Stretch::of(&place);
        if let Some(shared) = &first.fetched {
            return self.share_frame(shared, &stretch, first.pieces);
        }
        let mut jobs = vec![first];
        while let Ok(job) = self.queue.try_recv() {
            let is_beside =
                job.fetched.is_none() && job.pieces.first().is_some_and(|piece| stretch.take(&piece.place));
            if !is_beside {
                self.next = Some(job);
                break;
            }
            jobs.push(job);
        }
        self.share = Some(self.budget.take(stretch.len()));
        // A frame that cannot be had this way is asked for by itself, and whoever does that learns what is wrong with it.
        let mut frames = self.packs.stretch(&stretch);
        self.ready.extend(jobs.into_iter().map(|job| {
            let place = job.place();
            let found = frames.iter().position(|(known, _)| Some(*known) == place);
            let frame = found.map(|at| Arc::new(frames.swap_remove(at).1));
            Ready { pieces: job.pieces, is_shared: false, is_new: frame.is_some(), frame }
        }));
    }

    /// Takes a frame that has several jobs from who has it, or fetches it. Nobody who waits here has a part of the budget.
    fn share_frame(&mut self, shared: &SharedFrame, stretch: &Stretch, pieces: Vec<Piece>) {
        let mut known = shared.lock().unwrap_or_else(PoisonError::into_inner);
        let (frame, is_new) = match known.upgrade() {
            Some(frame) => (Some(frame), false),
            None => {
                self.share = Some(self.budget.take(stretch.len()));
                let frame = self.packs.stretch(stretch).pop().map(|(_, frame)| Arc::new(frame));
                *known = frame.as_ref().map_or_else(Weak::new, Arc::downgrade);
                let is_new = frame.is_some();
                (frame, is_new)
            }
        };
        self.ready.push_back(Ready { pieces, frame, is_shared: true, is_new });
    }
}

impl Iterator for Jobs<'_, '_> {
    type Item = Ready;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(ready) = self.ready.pop_front() {
            return Some(ready);
        }
        // The frames that came last are written by now.
        self.share = None;
        let first = match self.next.take() {
            Some(job) => job,
            None => self.queue.recv().ok()?,
        };
        // What is near is read as it is opened.
        if !self.packs.are_far() {
            return Some(Ready { pieces: first.pieces, ..Ready::default() });
        }
        self.fetch(first);
        Some(self.ready.pop_front().unwrap_or_default())
    }
}
