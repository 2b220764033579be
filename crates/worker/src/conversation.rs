//! The loop between supervisor and engine.
//!
//! One thread reads messages; this one computes. Between two denoising steps it takes whatever has
//! arrived: new attempts join, cancelled ones leave, others are paused and go on. It waits only when it has
//! nothing to compute. The reading thread answers pings by itself: however long a step takes, the process lives.

use crate::engine::{Engine, EngineError};
use crate::memory;
use reel_protocol::flight::{Boot, Note, Told};
use reel_protocol::{
    Attempt, Canary, Channel, ChannelError, Checkpoint, CheckpointError, FailureClass,
    FlightRecorder, FromWorker, Item, OutputKind, Pixels, Stage, Timings, ToWorker, VERSION, Video,
};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, RecvError, TryRecvError, sync_channel};
use std::time::{Duration, Instant};
use tracing::Span;

/// Messages that may wait for the computing thread; beyond that the kernel's socket buffer holds them.
const INBOX_MAX: usize = 64;
/// How far a reproduced canary may be from the recorded one, relative to its size.
const CANARY_TOLERANCE: f32 = 1e-3;

type End = Channel<ToWorker, FromWorker>;
type Incoming = Result<(ToWorker, Option<OwnedFd>), ChannelError>;

/// Why a worker stopped serving.
#[derive(Debug)]
pub enum Ending {
    /// The supervisor asked it to, or is gone.
    Asked,
    /// It cannot go on; the supervisor was told.
    Fatal(EngineError),
    /// The conversation broke.
    Broken(ChannelError),
}

/// Loads an engine and serves attempts until told to stop. `born` is when the process started.
pub fn serve<E: Engine>(
    channel: &End,
    mut flight: FlightRecorder,
    born: Instant,
    load: impl FnOnce() -> Result<E, EngineError>,
) -> Ending {
    let ending = match boot(channel, &mut flight, born, load) {
        Ok(engine) => Conversation::new(channel, &mut flight, engine).run(),
        Err(ending) => ending,
    };
    if let Ending::Fatal(error) = &ending {
        flight.note(Note::Failed(error.class));
        // Best effort: a supervisor that is gone needs no explanation.
        let _ = channel.send(
            &FromWorker::Fatal {
                class: error.class,
                message: error.message.clone(),
            },
            None,
        );
    }
    ending
}

fn boot<E: Engine>(
    channel: &End,
    flight: &mut FlightRecorder,
    born: Instant,
    load: impl FnOnce() -> Result<E, EngineError>,
) -> Result<E, Ending> {
    let say = |message| channel.send(&message, None).map_err(Ending::Broken);
    say(FromWorker::Hello {
        protocol: VERSION,
        pid: std::process::id(),
    })?;
    flight.note(Note::Booting(Boot::Load));
    let mut engine = load().map_err(Ending::Fatal)?;
    let capabilities = engine.capabilities();
    say(FromWorker::Loaded { capabilities })?;
    flight.note(Note::Booting(Boot::Canary));
    let canary = engine.canary().map_err(Ending::Fatal)?;
    check(canary).map_err(Ending::Fatal)?;
    let memory = memory::of_this_process();
    say(FromWorker::Ready {
        bundle_id: engine.bundle_id().to_owned(),
        memory,
        boot_us: micros(born.elapsed()),
        canary,
    })?;
    flight.note(Note::Booting(Boot::Ready));
    flight.note(Note::Memory(memory));
    Ok(engine)
}

fn check(canary: Canary) -> Result<(), EngineError> {
    let Canary { expected, got } = canary;
    if (got - expected).abs() <= CANARY_TOLERANCE * expected.abs().max(1.0) {
        return Ok(());
    }
    Err(EngineError::boot(format!(
        "the canary computed {got} instead of {expected}: this machine does not reproduce the bake; bake again here"
    )))
}

/// An attempt that is being computed.
struct Active<R> {
    attempt: Attempt,
    run: R,
    timings: Timings,
    paused: bool,
    /// Where its state is kept, if the engine can go on from one.
    checkpoint: Option<Checkpoint>,
    /// What happens for it alone is said in here.
    span: Span,
}

/// What came with a `Generate`.
struct Asked {
    attempt: Attempt,
    item: Item,
    /// The memory file is a checkpoint.
    resumes: bool,
    memory: Option<OwnedFd>,
}

struct Conversation<'a, E: Engine> {
    channel: &'a End,
    flight: &'a mut FlightRecorder,
    engine: E,
    active: Vec<Active<E::Run>>,
    /// The batch that is not whole yet.
    asked: Vec<Asked>,
    stopping: bool,
    /// The last state that was saved; kept for its memory.
    state: Vec<u8>,
}

/// What ends the loop early.
enum Stop {
    Fatal(EngineError),
    Broken(ChannelError),
}

impl From<ChannelError> for Stop {
    fn from(error: ChannelError) -> Self {
        Self::Broken(error)
    }
}

impl<'a, E: Engine> Conversation<'a, E> {
    const fn new(channel: &'a End, flight: &'a mut FlightRecorder, engine: E) -> Self {
        Self {
            channel,
            flight,
            state: Vec::new(),
            engine,
            active: Vec::new(),
            asked: Vec::new(),
            stopping: false,
        }
    }

    fn run(mut self) -> Ending {
        let inbox = read_in_background(self.channel.clone());
        loop {
            let result = self.listen(&inbox).and_then(|()| self.advance());
            match result {
                Err(Stop::Fatal(error)) => return Ending::Fatal(error),
                Err(Stop::Broken(ChannelError::Closed)) => return Ending::Asked,
                Err(Stop::Broken(error)) => return Ending::Broken(error),
                Ok(()) if self.stopping && self.active.is_empty() => return Ending::Asked,
                Ok(()) => {}
            }
        }
    }

    /// Takes what has arrived; waits only when there is nothing to compute.
    fn listen(&mut self, inbox: &Receiver<Incoming>) -> Result<(), Stop> {
        loop {
            let incoming = if self.has_nothing_to_do() {
                inbox.recv().map_err(|RecvError| ChannelError::Closed)?
            } else {
                match inbox.try_recv() {
                    Ok(incoming) => incoming,
                    Err(TryRecvError::Empty) => return Ok(()),
                    Err(TryRecvError::Disconnected) => return Err(ChannelError::Closed.into()),
                }
            };
            let (message, fd) = incoming?;
            self.obey(message, fd)?;
        }
    }

    fn has_nothing_to_do(&self) -> bool {
        let through = self.stopping && self.active.is_empty();
        !through && self.active.iter().all(|active| active.paused)
    }

    fn obey(&mut self, message: ToWorker, fd: Option<OwnedFd>) -> Result<(), Stop> {
        self.flight.note(told(&message));
        match message {
            ToWorker::Generate {
                attempt,
                item,
                resumes,
                more,
            } => {
                self.asked.push(Asked {
                    attempt,
                    item,
                    resumes,
                    memory: fd,
                });
                match more {
                    true => Ok(()),
                    false => self.begin_batch(),
                }
            }
            ToWorker::Cancel { attempt } => self.cancel(attempt),
            ToWorker::Pause { attempt } => {
                self.set_paused(attempt, true);
                Ok(())
            }
            ToWorker::Resume { attempt } => {
                self.set_paused(attempt, false);
                Ok(())
            }
            // The reading thread answers.
            ToWorker::Ping { .. } => Ok(()),
            ToWorker::Shutdown => {
                self.stopping = true;
                Ok(())
            }
        }
    }

    fn begin_batch(&mut self) -> Result<(), Stop> {
        let asked = std::mem::take(&mut self.asked);
        asked.into_iter().try_for_each(|asked| self.begin(asked))
    }

    fn begin(&mut self, asked: Asked) -> Result<(), Stop> {
        let attempt = asked.attempt;
        let span = span(&asked);
        let _inside = span.clone().entered();
        self.channel.send(&FromWorker::Started { attempt }, None)?;
        self.flight.note(Note::Enters(attempt, Stage::Encode));
        let begun = Instant::now();
        let run = match self.run_of(asked) {
            Ok(run) => run,
            Err(error) => return self.fail(attempt, error),
        };
        let timings = Timings {
            encode_us: micros(begun.elapsed()),
            ..Timings::default()
        };
        tracing::info!(encode_us = timings.encode_us, "begun");
        let checkpoint = self.open_checkpoint(attempt)?;
        let (step, of) = self.engine.progress(&run);
        self.active.push(Active {
            attempt,
            run,
            timings,
            paused: false,
            checkpoint,
            span,
        });
        self.report(attempt, Stage::Encode, 1, 1)?;
        match step {
            0 => Ok(()),
            // It goes on from there; if all steps are behind it, what comes next is the decoding.
            _ => self.report(attempt, Stage::Denoise, step, of),
        }
    }

    /// From the prompt and the given frames, or from where an earlier attempt stood.
    fn run_of(&mut self, asked: Asked) -> Result<E::Run, EngineError> {
        let Asked {
            item,
            resumes,
            memory,
            ..
        } = asked;
        if resumes {
            let checkpoint = memory.map(Checkpoint::accept).transpose();
            let checkpoint =
                checkpoint.map_err(|error| EngineError::checkpoint(error.to_string()))?;
            let saved = checkpoint.and_then(|checkpoint| checkpoint.latest());
            let saved =
                saved.ok_or_else(|| EngineError::checkpoint("the checkpoint holds no state"))?;
            return self.engine.resume(&item, &saved);
        }
        let given = given_frames(&item, memory, self.engine.frame_bytes())?;
        self.engine.begin(&item, &given)
    }

    /// Tells the supervisor where the state of an attempt is kept. Without memory for it there is just none.
    fn open_checkpoint(&self, attempt: Attempt) -> Result<Option<Checkpoint>, Stop> {
        let bytes = self.engine.state_bytes();
        if bytes == 0 {
            return Ok(None);
        }
        let Ok(checkpoint) = Checkpoint::create(bytes) else {
            return Ok(None);
        };
        let message = FromWorker::Checkpoint { attempt };
        self.channel.send(&message, Some(checkpoint.as_fd()))?;
        Ok(Some(checkpoint))
    }

    /// Saves where an attempt stands. One that cannot be saved begins anew if it has to.
    fn save(&mut self, index: usize) {
        let active = &mut self.active[index];
        let (step, _) = self.engine.progress(&active.run);
        let Some(checkpoint) = &mut active.checkpoint else {
            return;
        };
        self.state.clear();
        let saved = self.engine.save(&active.run, &mut self.state);
        let saved = saved.map_err(|_| CheckpointError::Unsealed);
        if saved
            .and_then(|()| checkpoint.save(step, &self.state))
            .is_err()
        {
            active.checkpoint = None;
        }
    }

    fn cancel(&mut self, attempt: Attempt) -> Result<(), Stop> {
        let held = self.active.len() + self.asked.len();
        self.active.retain(|active| active.attempt != attempt);
        self.asked.retain(|asked| asked.attempt != attempt);
        // An attempt that is not here has finished or failed; its last message is on the way.
        if self.active.len() + self.asked.len() < held {
            self.channel
                .send(&FromWorker::Cancelled { attempt }, None)?;
        }
        Ok(())
    }

    /// Of an attempt that is not here nothing is to be done.
    fn set_paused(&mut self, attempt: Attempt, paused: bool) {
        let of = self
            .active
            .iter_mut()
            .find(|active| active.attempt == attempt);
        if let Some(active) = of {
            active.paused = paused;
        }
    }

    /// One denoising step for everybody who is not paused, and the pixels of whoever is through.
    fn advance(&mut self) -> Result<(), Stop> {
        let begun = Instant::now();
        let engine = &self.engine;
        // One that went on from a checkpoint may have all its steps behind it.
        let goes_on = |active: &Active<E::Run>| {
            let (step, of) = engine.progress(&active.run);
            !active.paused && step < of
        };
        let stepping: Vec<_> = self.active.iter().map(goes_on).collect();
        let active = self.active.iter_mut().zip(&stepping);
        let mut runs: Vec<_> = active
            .filter_map(|(active, steps)| steps.then_some(&mut active.run))
            .collect();
        if !runs.is_empty() {
            self.engine.step(&mut runs).map_err(Stop::Fatal)?;
        }
        let spent = micros(begun.elapsed());
        for index in (0..stepping.len()).filter(|&index| stepping[index]) {
            self.save(index);
            let active = &mut self.active[index];
            active.timings.denoise_us += spent;
            let (attempt, (step, of)) = (active.attempt, self.engine.progress(&active.run));
            self.report(attempt, Stage::Denoise, step, of)?;
        }
        let engine = &self.engine;
        let through = |active: &mut Active<E::Run>| {
            let (step, of) = engine.progress(&active.run);
            !active.paused && step >= of
        };
        let finished: Vec<_> = self.active.extract_if(.., through).collect();
        finished
            .into_iter()
            .try_for_each(|active| self.finish(active))
    }

    fn finish(&mut self, active: Active<E::Run>) -> Result<(), Stop> {
        let Active {
            attempt,
            run,
            mut timings,
            span,
            ..
        } = active;
        let _inside = span.entered();
        let begun = Instant::now();
        self.flight.note(Note::Enters(attempt, Stage::Decode));
        let (output, memory_file) = match self.output(run) {
            Ok(output) => output,
            Err(error) => return self.fail(attempt, error),
        };
        timings.decode_us = micros(begun.elapsed());
        tracing::info!(
            denoise_us = timings.denoise_us,
            decode_us = timings.decode_us,
            "finished"
        );
        let memory = memory::of_this_process();
        self.flight.note(Note::Memory(memory));
        let finished = FromWorker::Finished {
            attempt,
            output,
            timings,
            memory,
        };
        Ok(self.channel.send(&finished, Some(memory_file.as_fd()))?)
    }

    /// The video that the engine made itself, or the frames of one.
    fn output(&mut self, run: E::Run) -> Result<(OutputKind, OwnedFd), EngineError> {
        if let Some(mp4) = self.engine.video(&run)? {
            let video = Video::new(&mp4).map_err(|error| EngineError::soft(error.to_string()))?;
            return Ok((OutputKind::Video, video.into()));
        }
        let mut frames = vec![0; self.engine.video_bytes()];
        self.engine.decode(run, &mut frames)?;
        let pixels = Pixels::new(&frames).map_err(|error| EngineError::soft(error.to_string()))?;
        Ok((OutputKind::Frames, pixels.into_file().into()))
    }

    fn fail(&mut self, attempt: Attempt, error: EngineError) -> Result<(), Stop> {
        tracing::warn!(class = ?error.class, "the attempt failed: {error}");
        self.flight.note(Note::Failed(error.class));
        match error.class {
            FailureClass::Soft | FailureClass::Checkpoint => {
                let failed = FromWorker::Failed {
                    attempt,
                    class: error.class,
                    message: error.message,
                };
                Ok(self.channel.send(&failed, None)?)
            }
            _ => Err(Stop::Fatal(error)),
        }
    }

    fn report(&mut self, attempt: Attempt, stage: Stage, step: u32, of: u32) -> Result<(), Stop> {
        self.flight.note(Note::At {
            attempt,
            stage,
            step,
            of,
        });
        Ok(self.channel.send(
            &FromWorker::Step {
                attempt,
                stage,
                step,
                of,
            },
            None,
        )?)
    }
}

/// Carries the trace of the request, so that what is said of the attempt here can be found with what others say of it.
fn span(asked: &Asked) -> Span {
    let Attempt { job, number } = asked.attempt;
    let job = u128::from_be_bytes(job);
    let trace = asked.item.trace.as_deref().unwrap_or_default();
    tracing::info_span!(
        "attempt",
        job = format_args!("video_{job:032x}"),
        number,
        trace
    )
}

const fn told(message: &ToWorker) -> Note {
    match *message {
        ToWorker::Generate { attempt, .. } => Note::Told(Told::Generate, Some(attempt)),
        ToWorker::Cancel { attempt } => Note::Told(Told::Cancel, Some(attempt)),
        ToWorker::Pause { attempt } => Note::Told(Told::Pause, Some(attempt)),
        ToWorker::Resume { attempt } => Note::Told(Told::Resume, Some(attempt)),
        ToWorker::Ping { .. } => Note::Told(Told::Ping, None),
        ToWorker::Shutdown => Note::Told(Told::Shutdown, None),
    }
}

fn given_frames(
    item: &Item,
    fd: Option<OwnedFd>,
    frame_bytes: usize,
) -> Result<Vec<u8>, EngineError> {
    let expected = u64::from(item.conditioning_frames) * frame_bytes as u64;
    match fd {
        None if expected == 0 => Ok(Vec::new()),
        None => Err(EngineError::soft(
            "the given frames did not come with the message",
        )),
        Some(fd) => Pixels::accept(fd, expected)
            .and_then(|pixels| Ok(pixels.read()?))
            .map_err(|error| EngineError::soft(format!("given frames: {error}"))),
    }
}

/// Reads on a thread of its own, so that a message is taken from the kernel while a step is computed.
fn read_in_background(channel: End) -> Receiver<Incoming> {
    let (sender, inbox) = sync_channel(INBOX_MAX);
    std::thread::spawn(move || {
        loop {
            let mut incoming = channel.receive();
            // The computing thread has no part in it: pings must not fill its inbox while a step takes its time.
            if let Ok((ToWorker::Ping { nonce }, _)) = incoming {
                match channel.send(&FromWorker::Pong { nonce }, None) {
                    Ok(()) => continue,
                    Err(error) => incoming = Err(error),
                }
            }
            let last = incoming.is_err();
            if sender.send(incoming).is_err() || last {
                return;
            }
        }
    });
    inbox
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
