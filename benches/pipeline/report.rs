//! The report: tables in Markdown, for people and for the repository, and the same as JSON.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::chart;
use crate::latency::Added;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::stack::Subject;
use crate::sweep::{AWAY_MS, Axis, Point, Row, STANDARD};

/// All that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    /// How often each point was measured, and with how many jobs.
    pub(crate) runs: usize,
    pub(crate) jobs: usize,
    pub(crate) rows: Vec<Row>,
    pub(crate) latency: Vec<Added>,
    pub(crate) memory: Option<Memory>,
}

impl Report {
    /// Writes `benchmarks.md`, `benchmarks.json` and `benchmarks.svg`.
    pub(crate) fn write(&self, dir: &Path) -> Result<()> {
        fs::create_dir_all(dir)?;
        fs::write(dir.join("benchmarks.md"), self.markdown()?)?;
        let json = serde_json::to_string_pretty(self)?;
        fs::write(dir.join("benchmarks.json"), json + "\n")?;
        chart::draw(&self.rows, &dir.join("benchmarks.svg"))
    }

    /// The whole as Markdown.
    pub(crate) fn markdown(&self) -> Result<String> {
        let mut text = self.head()?;
        self.summary(&mut text)?;
        for axis in Axis::ALL {
            self.table(&mut text, axis)?;
        }
        self.latencies(&mut text)?;
        self.memories(&mut text)?;
        Ok(text)
    }

    fn head(&self) -> Result<String> {
        let Machine {
            cpu,
            cores,
            memory_gib,
            kernel,
            rabbitmq,
            erlang,
            broker_files,
            rustc,
            commit,
            date,
        } = &self.machine;
        let files = match broker_files.as_deref() {
            Some("tmpfs") => ", its files in memory",
            Some(_) => ", its files on a disk",
            None => "",
        };
        let mut text = "# Benchmarks\n\n".to_owned();
        writeln!(
            text,
            "Written by `scripts/bench --report` on {date} from commit {commit}.\n"
        )?;
        writeln!(
            text,
            "Machine: {cpu}, {cores} cores, {memory_gib:.0} GiB, Linux {kernel}; RabbitMQ {rabbitmq} on Erlang/OTP {erlang}, one node, \
             quorum queues{files}; {rustc}. Broker, portal, worker and the load generator share these cores.\n"
        )?;
        writeln!(
            text,
            "The **floor** is a bare pipeline of the same libraries and the same cryptography, measured in the same run: consume, \
             read seller and number, seal, POST, open, verify both signatures, publish the result with a confirm, acknowledge. It decides, \
             limits, counts, logs and repeats nothing (`benches/pipeline/floor.rs`). The worker runs as configured by default, with its JSON \
             log and its metrics on, signatures required, and limits that do not bind (`irp.concurrency_per_gstin` among them). Its threads \
             are under `SCHED_BATCH`, as it puts them; those of the floor are not.\n"
        )?;
        writeln!(
            text,
            "Costs are CPU time of the process for each job, as the kernel counted it while {} jobs (fewer of large documents) were \
             carried; the median of {} runs. Jobs/s is what one machine does that also has to be the broker and the portal: compare costs.\n",
            self.jobs, self.runs
        )?;
        writeln!(text, "![cost of a job](benchmarks.svg)\n")?;
        Ok(text)
    }

    /// The figures that are promised, as far as they were measured.
    fn summary(&self, text: &mut String) -> Result<()> {
        let mut lines = self.cost_lines();
        lines.extend(self.latency_lines());
        lines.extend(self.memory_lines());
        writeln!(text, "| | measured | at most |\n| :--- | ---: | ---: |")?;
        for (what, measured, limit) in lines {
            writeln!(text, "| {what} | {measured:.2} | {limit} |")?;
        }
        writeln!(text)?;
        Ok(())
    }

    fn cost_lines(&self) -> Vec<(&'static str, f64, f64)> {
        let ratio = |point: Point, subject, to: Point, of| {
            Some(self.cost(&point, subject)? / self.cost(&to, of)?)
        };
        let (plain, strict) = (
            Subject::Worker { preflight: false },
            Subject::Worker { preflight: true },
        );
        let few = Point {
            sellers: 1,
            ..STANDARD
        };
        let many = Point {
            sellers: 10_000,
            ..STANDARD
        };
        let of = |replicas, portal_ms| Point {
            replicas,
            portal_ms,
            ..STANDARD
        };
        let lines = [
            (
                "CPU of a job without pre-flight, of the floor's",
                ratio(STANDARD, plain, STANDARD, Subject::Floor),
                1.15,
            ),
            (
                "CPU of a job with pre-flight, of the floor's",
                ratio(STANDARD, strict, STANDARD, Subject::Floor),
                1.4,
            ),
            (
                "CPU of a job with 10,000 GSTINs, of that with one",
                ratio(many, plain, few, plain),
                1.1,
            ),
            (
                "CPU of a job with four replicas, of that with one, full load, portal that answers at once",
                ratio(of(4, 0), plain, of(1, 0), plain),
                1.1,
            ),
            (
                "CPU of a job with four replicas, of that with one, 64 jobs at once each, portal that takes its time",
                ratio(of(4, AWAY_MS), plain, of(1, AWAY_MS), plain),
                1.1,
            ),
        ];
        let measured = lines.into_iter();
        measured
            .filter_map(|(what, ratio, limit)| Some((what, ratio?, limit)))
            .collect()
    }

    fn latency_lines(&self) -> Vec<(&'static str, f64, f64)> {
        let ours = |added: &&Added| added.subject != Subject::Floor;
        let at_half = |added: &&Added| added.load_percent == 50;
        let at_half: Vec<&Added> = self.latency.iter().filter(ours).filter(at_half).collect();
        let cost = |replicas| {
            let mut seen = at_half.iter();
            let of_these = seen.find(|added| added.portal_ms > 0 && added.replicas == replicas)?;
            Some(of_these.subject_us)
        };
        let ratio = cost(4).zip(cost(1)).map(|(four, one)| four / one);
        let what = "CPU of a job with four replicas, of that with one, the same jobs a second, portal that takes its time";
        let costs = ratio.map(|ratio| (what, ratio, 1.1));
        let what = |added: &Added| match added.portal_ms {
            0 => "p99 of the added latency at half load, portal that answers at once, ms",
            _ => "p99 of the added latency at half load, portal that takes its time, ms",
        };
        let of_one = at_half.iter().filter(|added| added.replicas == 1);
        let latencies = of_one.map(|added| (what(added), added.p99_ms, 5.0));
        costs.into_iter().chain(latencies).collect()
    }

    fn memory_lines(&self) -> Vec<(&'static str, f64, f64)> {
        let Some(memory) = &self.memory else {
            return Vec::new();
        };
        vec![
            ("most memory with 64 jobs at once, MiB", memory.peak, 48.0),
            ("memory when idle, MiB", memory.idle, 16.0),
            (
                "more memory with 10,000 live sessions, MiB",
                memory.after_many_gstins - memory.after_one_gstin,
                40.0,
            ),
        ]
    }

    fn table(&self, text: &mut String, axis: Axis) -> Result<()> {
        let points = axis.points();
        let measured = |point: &&Point| self.rows.iter().any(|row| row.point == **point);
        let points: Vec<&Point> = points.iter().filter(measured).collect();
        // A single one is the standard point, which the first table shows.
        if points.is_empty() || (points.len() == 1 && axis != Axis::Concurrency) {
            return Ok(());
        }
        let values: Vec<String> = points.iter().map(|point| axis.value(point)).collect();
        writeln!(text, "## By {}: {}\n", axis.title(), values.join(", "))?;
        writeln!(text, "{}\n", around(axis))?;
        writeln!(
            text,
            "| {} | | CPU µs/job | of the floor | jobs/s | broker µs/job | portal µs/job | peak MiB |\n\
             | ---: | :--- | ---: | ---: | ---: | ---: | ---: | ---: |",
            axis.title()
        )?;
        for point in points {
            for row in self.rows.iter().filter(|row| row.point == *point) {
                self.line(text, &axis.value(point), row)?;
            }
        }
        writeln!(text)?;
        Ok(())
    }

    fn line(&self, text: &mut String, value: &str, row: &Row) -> Result<()> {
        let Row {
            subject, median, ..
        } = row;
        let floor = self.cost(&row.point, Subject::Floor);
        let ratio = floor.map_or(0.0, |floor| median.subject_us / floor);
        writeln!(
            text,
            "| {value} | {} | {:.0} | {ratio:.2} | {:.0} | {:.0} | {:.0} | {:.1} |",
            subject,
            median.subject_us,
            median.rate,
            median.broker_us,
            median.portal_us,
            median.peak_mib
        )?;
        Ok(())
    }

    /// What a subject cost at a point, if it was measured there.
    fn cost(&self, point: &Point, subject: Subject) -> Option<f64> {
        let row = self
            .rows
            .iter()
            .find(|row| row.point == *point && row.subject == subject)?;
        Some(row.median.subject_us)
    }

    fn latencies(&self, text: &mut String) -> Result<()> {
        if self.latency.is_empty() {
            return Ok(());
        }
        writeln!(
            text,
            "## Below full load\n\n\
             Jobs come at a fixed rate, a share of what one replica carried at full load, whether or not results come. Time from the moment a job is due \
             to the moment its result is consumed, without the portal's own time; broker and load generator are in it. *Busy* is how much of their \
             time the machine's processors worked, for all of them. Of {} runs the one with the middle p99, and the middle CPU time.\n\n\
             | portal takes | load | replicas | | jobs/s | busy | CPU µs/job | p50 ms | p99 ms | max ms |\n\
             | ---: | ---: | ---: | :--- | ---: | ---: | ---: | ---: | ---: | ---: |",
            self.runs
        )?;
        for added in &self.latency {
            let Added {
                subject,
                replicas,
                subject_us,
                portal_ms,
                load_percent,
                rate,
                busy,
                p50_ms,
                p99_ms,
                max_ms,
                ..
            } = added;
            writeln!(
                text,
                "| {portal_ms} ms | {load_percent} % | {replicas} | {subject} | {rate:.0} | {:.0} % | {subject_us:.0} | {p50_ms:.2} | {p99_ms:.2} | {max_ms:.2} |",
                busy * 100.0
            )?;
        }
        writeln!(text)?;
        Ok(())
    }

    fn memories(&self, text: &mut String) -> Result<()> {
        let Some(memory) = &self.memory else {
            return Ok(());
        };
        let Memory {
            idle,
            over_jobs,
            peak,
            sessions,
            after_one_gstin,
            after_many_gstins,
            peak_many_gstins,
        } = memory;
        let jobs = over_jobs.len() * 10_000;
        writeln!(
            text,
            "## Memory\n\nResident memory of one worker with pre-flight, {} jobs at once, MiB.\n\n| | MiB |\n| :--- | ---: |\n\
             | idle, 30 s after the start | {idle:.1} |\n\
             | the most over {jobs} jobs | {peak:.1} |\n\
             | idle after {sessions} jobs of one GSTIN | {after_one_gstin:.1} |\n\
             | idle after {sessions} jobs of {sessions} GSTINs, all sessions live | {after_many_gstins:.1} |\n\
             | the most with {sessions} GSTINs | {peak_many_gstins:.1} |\n",
            STANDARD.concurrency
        )?;
        let seen: Vec<String> = over_jobs.iter().map(|mib| format!("{mib:.1}")).collect();
        writeln!(text, "After each 10,000 jobs: {}.", seen.join(", "))?;
        Ok(())
    }
}

/// What stays the same along an axis.
fn around(axis: Axis) -> String {
    let fixed = Axis::ALL.into_iter().filter(|other| *other != axis);
    let fixed = fixed.map(|other| format!("{} {}", other.title(), other.value(&STANDARD)));
    format!("With {}.", fixed.collect::<Vec<_>>().join(", "))
}
