//! The chart: what a job costs, along each axis of the sweep.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;

use crate::stack::Subject;
use crate::sweep::{Axis, Point, Row, STANDARD};

const SIZE: (u32, u32) = (1_000, 760);
const FONT: (&str, i32) = ("sans-serif", 14);
const SUBJECTS: [(Subject, RGBColor); 3] = [
    (Subject::Floor, RGBColor(120, 120, 120)),
    (Subject::Worker { preflight: false }, RGBColor(20, 90, 180)),
    (Subject::Worker { preflight: true }, RGBColor(200, 90, 20)),
];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Draws the measured rows to an SVG file.
pub(crate) fn draw(rows: &[Row], file: &Path) -> Result<()> {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    let drawn = root.fill(&WHITE).map_err(told);
    drawn?;
    let panels = root.split_evenly((2, 2));
    let axes = [Axis::Concurrency, Axis::Size, Axis::Sellers, Axis::Replicas];
    for (panel, axis) in panels.iter().zip(axes) {
        draw_axis(panel, axis, rows)?;
    }
    root.present().map_err(told)
}

fn draw_axis(panel: &Area<'_>, axis: Axis, rows: &[Row]) -> Result<()> {
    let mut points = axis.points();
    points.retain(|point| point.portal_ms == STANDARD.portal_ms);
    let lines =
        SUBJECTS.map(|(subject, colour)| (subject, colour, line(subject, axis, &points, rows)));
    let costs = lines
        .iter()
        .flat_map(|(_, _, line)| line)
        .map(|(_, cost)| *cost);
    let highest = costs.fold(1.0, f64::max);
    let last = points.len() as f64 - 1.0;
    let mut chart = ChartBuilder::on(panel)
        .caption(caption(axis), FONT)
        .margin(12)
        .x_label_area_size(30)
        .y_label_area_size(50)
        .build_cartesian_2d(-0.2..last + 0.2, 0.0..highest * 1.15)
        .map_err(told)?;
    let name = |place: &f64| {
        let whole = (place - place.round()).abs() < 0.01;
        let point = points
            .get(place.round().max(0.0) as usize)
            .filter(|_| whole);
        point.map_or_else(String::new, |point| axis.value(point))
    };
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(points.len() * 2)
        .x_label_formatter(&name)
        .draw()
        .map_err(told)?;
    for (subject, colour, line) in lines {
        if line.is_empty() {
            continue;
        }
        chart
            .draw_series(LineSeries::new(line.clone(), colour.stroke_width(2)))
            .map_err(told)?
            .label(subject.to_string())
            .legend(move |(x, y)| Rectangle::new([(x, y - 4), (x + 12, y + 4)], colour.filled()));
        let dots = line
            .into_iter()
            .map(|at| Circle::new(at, 3, colour.filled()));
        chart.draw_series(dots).map_err(told)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .border_style(TRANSPARENT)
        .draw()
        .map_err(told)
}

fn caption(axis: Axis) -> &'static str {
    match axis {
        Axis::Concurrency => "CPU µs a job, by jobs at once",
        Axis::Size => "CPU µs a kilobyte of document, by its size",
        Axis::Sellers => "CPU µs a job, by GSTINs",
        Axis::Replicas => "CPU µs a job, by replicas",
        Axis::Scheme => "CPU µs a job, by the portal's scheme",
    }
}

/// Place along the axis, and cost there.
fn line(subject: Subject, axis: Axis, points: &[Point], rows: &[Row]) -> Vec<(f64, f64)> {
    let at = |(place, point): (usize, &Point)| {
        let row = rows
            .iter()
            .find(|row| row.point == *point && row.subject == subject)?;
        let unit = match axis {
            Axis::Size => row.document_bytes as f64 / 1_000.0,
            Axis::Concurrency | Axis::Sellers | Axis::Replicas | Axis::Scheme => 1.0,
        };
        Some((place as f64, row.median.subject_us / unit))
    };
    points.iter().enumerate().filter_map(at).collect()
}

/// The library's errors borrow the drawing.
fn told(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("the chart cannot be drawn: {error}")
}
