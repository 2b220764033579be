//! What every slot did: a lane for each.

use super::{
    Area, COLOURS, FAINT_INK, GRID, INK, KEY_LINE, PlotError, Sign, before_a_point, beside_key,
    hatch, key, picture, small,
};
use crate::timeline::{Stay, Timeline};
use crate::world::Scenario;
use plotters::prelude::{ChartBuilder, Rectangle, Text};
use plotters::style::{Color, RGBColor, TRANSPARENT};
use reel_domain::{DeviceId, SlotId};
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

/// Pixels from lane to lane.
const LANE: u32 = 34;
/// Pixels between lanes.
const GAP: i32 = 8;
/// How much of its colour an idle worker has.
const IDLE: f64 = 0.3;
/// Pixels of title, axis and margins.
const AROUND: u32 = 176;
/// Lines of the key beside those of shapes, and some air.
const MEANINGS: u32 = 4;

/// Draws the beginning of a run, as much of it as `timeline` holds. `name`: of the run.
///
/// # Errors
/// [`PlotError`] when the picture could not be drawn.
pub fn slots(name: &str, scenario: &Scenario, timeline: &Timeline) -> Result<String, PlotError> {
    let slots = slots_of(scenario, timeline);
    let shown: BTreeSet<usize> = timeline.stays.iter().map(|stay| stay.bundle).collect();
    let rows = (slots.len() as u32 * LANE).max((shown.len() as u32 + MEANINGS) * KEY_LINE as u32);
    let minutes = timeline.window.as_secs_f64() / 60.0;
    let title = format!("What every slot did: {name}");
    let meaning = format!("the first {minutes:.0} minutes; the colour is the shape of the worker");
    picture((1_200, rows + AROUND), &title, &meaning, |area| {
        let (body, keys) = beside_key(area);
        let lanes = Lanes {
            of: axis(&body, minutes)?,
            area: &body,
            slots: &slots,
            window: timeline.window,
        };
        lanes.label()?;
        for stay in &timeline.stays {
            lanes.draw(stay)?;
        }
        explain(&keys, scenario, &shown)
    })
}

/// Draws the axis of time, and gives back the part of the picture above it, in pixels.
fn axis(body: &Area<'_>, minutes: f64) -> Result<(Range<i32>, Range<i32>), PlotError> {
    let mut chart = ChartBuilder::on(body)
        .x_label_area_size(50)
        .y_label_area_size(140)
        .build_cartesian_2d(0.0..minutes, 0.0..1.0)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_label_formatter(&|minutes| format!("{minutes:.0}"))
        .x_desc("time (min)")
        .label_style(small(INK))
        .axis_desc_style(small(INK))
        .axis_style(FAINT_INK)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .draw()?;
    let (left, top) = body.get_base_pixel();
    let (across, down) = chart.plotting_area().get_pixel_range();
    Ok((
        across.start - left..across.end - left,
        down.start - top..down.end - top,
    ))
}

/// The lanes, in pixels: stripes are everywhere as far apart.
struct Lanes<'a, 'svg> {
    area: &'a Area<'svg>,
    /// Across and down.
    of: (Range<i32>, Range<i32>),
    slots: &'a [SlotId],
    window: Duration,
}

impl Lanes<'_, '_> {
    fn label(&self) -> Result<(), PlotError> {
        for slot in self.slots {
            let [(left, above), (_, below)] = self.span(*slot, Duration::ZERO, None);
            let name = format!("device {}, slot {}", slot.device.0, slot.index);
            let at = (left - 10, (above + below) / 2);
            self.area.draw(&Text::new(name, at, before_a_point()))?;
        }
        Ok(())
    }

    /// A worker: its spawn, then what it is while nothing is done, then its work over that.
    fn draw(&self, stay: &Stay) -> Result<(), PlotError> {
        let colour = colour(stay.bundle);
        let fill = |from, to, style| {
            let span = self.span(stay.slot, from, to);
            self.area.draw(&Rectangle::new(span, style))
        };
        let [from, to] = self.span(stay.slot, stay.spawned, stay.ready.or(stay.gone));
        hatch(self.area, from, to, colour)?;
        if let Some(ready) = stay.ready {
            fill(ready, stay.gone, colour.mix(IDLE).filled())?;
        }
        for &(from, to) in &stay.busy {
            fill(from, to, colour.filled())?;
        }
        Ok(())
    }

    /// A box in a lane, over some time; `None`: to the end of the window.
    fn span(&self, slot: SlotId, from: Duration, to: Option<Duration>) -> [(i32, i32); 2] {
        let (across, down) = &self.of;
        let x = |time: Duration| {
            let share = time.min(self.window).div_duration_f64(self.window);
            across.start + (f64::from(across.end - across.start) * share) as i32
        };
        let y = |lane: usize| {
            down.start + (down.end - down.start) * lane as i32 / self.slots.len() as i32
        };
        let lane = self.slots.partition_point(|other| *other < slot);
        [
            (x(from), y(lane) + GAP / 2),
            (x(to.unwrap_or(self.window)), y(lane + 1) - GAP / 2),
        ]
    }
}

fn explain(keys: &Area<'_>, scenario: &Scenario, shown: &BTreeSet<usize>) -> Result<(), PlotError> {
    let mut signs = vec![
        (Sign::Hatched(FAINT_INK), "is spawned".to_owned()),
        (
            Sign::Box(FAINT_INK.mix(IDLE).filled()),
            "hot, idle".to_owned(),
        ),
        (Sign::Box(FAINT_INK.filled()), "hot, has work".to_owned()),
    ];
    for &bundle in shown {
        let shape = scenario.menu[bundle].key.shape.to_string();
        signs.push((Sign::Box(colour(bundle).filled()), shape));
    }
    for (place, (sign, name)) in signs.iter().enumerate() {
        key(keys, place, sign, name)?;
    }
    Ok(())
}

/// In the order of their lanes. A device may have one slot more than it has workers, where the next one starts.
fn slots_of(scenario: &Scenario, timeline: &Timeline) -> Vec<SlotId> {
    let devices = scenario.devices.iter().zip(0..);
    let slots = devices.flat_map(|(device, number)| {
        (0..device.slots).map(move |index| SlotId {
            device: DeviceId(number),
            index,
        })
    });
    let used = timeline.stays.iter().map(|stay| stay.slot);
    let slots: BTreeSet<SlotId> = slots.chain(used).collect();
    slots.into_iter().collect()
}

/// More shapes than colours: the next six are darker, and so on.
fn colour(bundle: usize) -> RGBColor {
    let RGBColor(red, green, blue) = COLOURS[bundle % COLOURS.len()];
    let shade = 0.62_f64.powf((bundle / COLOURS.len()) as f64);
    let darker = |part: u8| (f64::from(part) * shade) as u8;
    RGBColor(darker(red), darker(green), darker(blue))
}
