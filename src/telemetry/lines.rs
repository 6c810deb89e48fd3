//! Log lines on their way out, many in one system call: one call for each was a fiftieth of a job.
//!
//! One rule: no line waits longer than a blink, and none that warns waits at all; so what comes before a failure is
//! there when it is.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// As long as a line waits for others.
const BLINK: Duration = Duration::from_millis(50);

/// As many bytes are written at once.
const FULL: usize = 32 * 1024;

/// Lines on their way out.
#[derive(Clone)]
pub(super) struct Lines(Arc<Shared>);

struct Shared {
    waiting: Mutex<Waiting>,
    /// Told of the first line that waits, and of the end.
    changed: Condvar,
}

struct Waiting {
    out: Box<dyn Write + Send>,
    lines: Vec<u8>,
    ended: bool,
}

impl fmt::Debug for Lines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Lines(..)")
    }
}

/// Writes what waits when it is dropped; to be held until nothing more is logged.
#[derive(Debug)]
pub struct Flush {
    lines: Lines,
    writer: Option<JoinHandle<()>>,
}

/// One line.
#[derive(Debug)]
pub(super) struct Line<'a> {
    lines: &'a Lines,
    at_once: bool,
}

impl Lines {
    /// Lines, and who writes them.
    ///
    /// # Errors
    /// No thread can be started.
    pub(super) fn start(out: impl Write + Send + 'static) -> io::Result<(Self, Flush)> {
        let waiting = Waiting {
            out: Box::new(out),
            lines: Vec::new(),
            ended: false,
        };
        let lines = Self(Arc::new(Shared {
            waiting: Mutex::new(waiting),
            changed: Condvar::new(),
        }));
        let theirs = lines.clone();
        let writer = thread::Builder::new().name("log".to_owned());
        let writer = writer.spawn(move || theirs.write_until_ended())?;
        let flush = Flush {
            lines: lines.clone(),
            writer: Some(writer),
        };
        Ok((lines, flush))
    }

    fn write_until_ended(&self) {
        loop {
            let waits = |waiting: &mut Waiting| waiting.lines.is_empty() && !waiting.ended;
            let waiting = self.0.changed.wait_while(self.lock(), waits);
            let ended = waiting.unwrap_or_else(PoisonError::into_inner).ended;
            if !ended {
                thread::sleep(BLINK);
            }
            self.lock().write_out();
            if ended {
                return;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Writes under the lock, so that lines stay in their order. Where they cannot go, there is nobody to tell.
    fn write_out(&mut self) {
        drop(self.out.write_all(&self.lines));
        drop(self.out.flush());
        self.lines.clear();
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line {
            lines: self,
            at_once: true,
        }
    }

    fn make_writer_for(&'a self, meta: &Metadata<'_>) -> Line<'a> {
        Line {
            lines: self,
            at_once: *meta.level() <= Level::WARN,
        }
    }
}

impl Write for Line<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = self.lines.lock();
        let is_first = waiting.lines.is_empty();
        waiting.lines.extend_from_slice(line);
        if self.at_once || waiting.ended || waiting.lines.len() >= FULL {
            waiting.write_out();
        } else if is_first {
            drop(waiting);
            self.lines.0.changed.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Flush {
    fn drop(&mut self) {
        self.lines.lock().ended = true;
        self.lines.0.changed.notify_one();
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has told of it itself.
            drop(writer.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[derive(Clone, Default)]
    struct Out(Arc<Mutex<Vec<u8>>>);

    impl Write for Out {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Out {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn line(lines: &Lines, at_once: bool, text: &str) {
        let mut line = Line { lines, at_once };
        line.write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn line_that_warns_is_out_at_once_with_those_before_it() {
        let out = Out::default();
        let (lines, _flush) = Lines::start(out.clone()).unwrap();
        line(&lines, false, "one\n");
        line(&lines, true, "two\n");
        assert_eq!(out.text(), "one\ntwo\n");
    }

    #[test]
    fn line_that_nobody_follows_is_out_soon() {
        let out = Out::default();
        let (lines, _flush) = Lines::start(out.clone()).unwrap();
        line(&lines, false, "one\n");
        let deadline = Instant::now() + Duration::from_secs(10);
        while out.text().is_empty() {
            assert!(Instant::now() < deadline, "it is still waiting");
            thread::yield_now();
        }
    }

    #[test]
    fn nothing_is_lost_at_the_end_and_nothing_waits_after_it() {
        let out = Out::default();
        let (lines, flush) = Lines::start(out.clone()).unwrap();
        let all: String = (0..10_000)
            .map(|number| format!("line {number}\n"))
            .collect();
        for text in all.split_inclusive('\n') {
            line(&lines, false, text);
        }
        drop(flush);
        line(&lines, false, "late\n");
        assert_eq!(out.text(), format!("{all}late\n"));
    }
}
