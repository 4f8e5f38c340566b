// SPDX-License-Identifier: GPL-2.0
//! The figures as bars: ours by the kernel's, 1 being the kernel's.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::Row;

/// Height of a bar with the room around it, in pixels.
const ROW: u32 = 22;
/// Room for names on the left, and for the figures on the right.
const NAMES: u32 = 260;
const WIDTH: u32 = 1000;

/// Writes the plot of all rows that have both figures.
pub(super) fn draw(path: &Path, machine: &str, rows: &[Row]) -> Result<()> {
    let bars: Vec<(&Row, f64)> =
        rows.iter().filter_map(|row| row.ratio.map(|ratio| (row, ratio))).collect();
    let height = 90 + ROW * bars.len() as u32;
    let most = bars.iter().fold(1.2, |most: f64, (_, ratio)| most.max(*ratio)).min(3.0);
    let root = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    let fail = |error: &dyn std::fmt::Display| anyhow!("{error}");
    root.fill(&WHITE).map_err(|error| fail(&error))?;
    let last = bars.len().max(1) as f64;
    let mut chart = ChartBuilder::on(&root)
        .caption(format!("{machine}: cost of ours by the C modules'"), ("sans-serif", 18))
        .margin(10)
        .margin_left(NAMES)
        .x_label_area_size(30)
        .build_cartesian_2d(0.0..most, last..0.0)
        .map_err(|error| fail(&error))?;
    let mesh = &mut chart.configure_mesh();
    mesh.disable_y_mesh().disable_y_axis().draw().map_err(|error| fail(&error))?;
    for (place, (row, ratio)) in bars.iter().enumerate() {
        let at = place as f64;
        let color = if *ratio <= 1.0 { RGBColor(60, 130, 90) } else { RGBColor(190, 70, 50) };
        let bar = Rectangle::new([(0.0, at + 0.15), (ratio.min(most), at + 0.85)], color.filled());
        chart.draw_series([bar]).map_err(|error| fail(&error))?;
        let y = (chart.backend_coord(&(0.0, at + 0.2))).1;
        let figure = |outcome| Row::figure(outcome).unwrap_or(0.0);
        let label = format!(
            "{}  {:.0} / {:.0}",
            row.name,
            figure(row.rust.as_ref()),
            figure(row.c.as_ref())
        );
        let style = ("sans-serif", 13).into_font();
        root.draw(&Text::new(label, (10, y), style)).map_err(|error| fail(&error))?;
    }
    let line = PathElement::new([(1.0, 0.0), (1.0, last)], BLACK);
    chart.draw_series([line]).map_err(|error| fail(&error))?;
    root.present().map_err(|error| fail(&error))
}
