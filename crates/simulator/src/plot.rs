//! Pictures of runs, as SVG: hit rates over K, the distribution of waits, and what every slot did.
//!
//! Colours are those of Okabe and Ito ("Color Universal Design", 2008), which colour-blind people tell apart;
//! lines differ in their dashes too. Keys stand beside the picture, where nothing is covered.

mod hit_rate;
mod slots;
mod waits;

pub use hit_rate::hit_rate;
pub use slots::slots;
pub use waits::waits;

use crate::optimum::Optimum;
use crate::report::Report;
use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::ranged1d::Ranged;
use plotters::element::DashedPathElement;
use plotters::prelude::{
    Cartesian2d, Circle, DrawingArea, DrawingAreaErrorKind, IntoDrawingArea, PathElement,
    Rectangle, SVGBackend, Text,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontStyle, IntoFont, RGBColor, ShapeStyle, TextStyle, WHITE};

/// One run, for a picture of several.
#[derive(Debug, Clone)]
pub struct Run {
    /// The policy of eviction.
    pub policy: String,
    /// Workers on each device.
    pub k: u32,
    /// What came of it.
    pub report: Report,
    /// What would have been enough.
    pub optimum: Optimum,
}

/// A picture could not be drawn.
#[derive(Debug, thiserror::Error)]
#[error("the picture could not be drawn: {0}")]
pub struct PlotError(String);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

impl<E: std::error::Error + Send + Sync> From<DrawingAreaErrorKind<E>> for PlotError {
    fn from(error: DrawingAreaErrorKind<E>) -> Self {
        Self(error.to_string())
    }
}

/// Okabe and Ito's, without black and yellow; dark and light in turn.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
];
const INK: RGBColor = RGBColor(34, 34, 34);
const FAINT_INK: RGBColor = RGBColor(110, 110, 110);
const GRID: RGBColor = RGBColor(228, 228, 228);
const FONT: &str = "sans-serif";
/// Pixels of text, here and below.
const TITLE: i32 = 24;
const LABEL: i32 = 16;
const MARGIN: i32 = 20;
/// Height of the title and of the line below it.
const HEAD: i32 = 82;
/// Width of the key.
const KEY: i32 = 200;
const KEY_LINE: i32 = 24;

/// How a line looks.
#[derive(Debug, Clone, Copy)]
struct Stroke {
    colour: RGBColor,
    /// Pixels of a dash and of a gap; `None`: there are no gaps.
    dash: Option<(i32, i32)>,
}

impl Stroke {
    const DASHES: [Option<(i32, i32)>; 3] = [None, Some((8, 5)), Some((2, 4))];

    fn style(self) -> ShapeStyle {
        self.colour.stroke_width(2)
    }
}

/// Draws a picture with a title and what it means below, and gives back its text. `draw` gets the rest of it.
fn picture(
    (width, height): (u32, u32),
    title: &str,
    meaning: &str,
    draw: impl FnOnce(&Area<'_>) -> Result<(), PlotError>,
) -> Result<String, PlotError> {
    let mut text = String::new();
    {
        let all = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        all.fill(&WHITE)?;
        let heading = (FONT, TITLE).into_font().style(FontStyle::Bold).color(&INK);
        all.draw(&Text::new(title, (MARGIN, MARGIN), heading))?;
        all.draw(&Text::new(meaning, (MARGIN, MARGIN + 32), small(FAINT_INK)))?;
        draw(&all.margin(HEAD, MARGIN, MARGIN, MARGIN))?;
        all.present()?;
    }
    Ok(text)
}

fn small(colour: RGBColor) -> TextStyle<'static> {
    (FONT, LABEL).into_font().color(&colour)
}

/// Text that ends at a point, on its height.
fn before_a_point() -> TextStyle<'static> {
    small(INK).pos(Pos::new(HPos::Right, VPos::Center))
}

/// The part for the picture itself, and the one for its key.
fn beside_key<'a>(area: &Area<'a>) -> (Area<'a>, Area<'a>) {
    let (width, _) = area.dim_in_pixel();
    area.split_horizontally(width as i32 - KEY)
}

/// What a line in the key shows.
enum Sign {
    Line(Stroke),
    Marked(Stroke),
    Box(ShapeStyle),
    Hatched(RGBColor),
}

/// One line of the key; `place`: from 0.
fn key(area: &Area<'_>, place: usize, sign: &Sign, name: &str) -> Result<(), PlotError> {
    let y = KEY_LINE * (place as i32 + 1);
    let (from, to) = (24, 54);
    match sign {
        Sign::Line(stroke) | Sign::Marked(stroke) => {
            line(area, &[(from, y), (to, y)], *stroke)?;
            if matches!(sign, Sign::Marked(_)) {
                area.draw(&Circle::new(
                    ((from + to) / 2, y),
                    4,
                    stroke.colour.filled(),
                ))?;
            }
        }
        Sign::Box(style) => area.draw(&Rectangle::new([(from, y - 7), (to, y + 7)], *style))?,
        Sign::Hatched(colour) => hatch(area, (from, y - 7), (to, y + 7), *colour)?,
    }
    let beside = small(INK).pos(Pos::new(HPos::Left, VPos::Center));
    area.draw(&Text::new(name, (to + 10, y), beside))?;
    Ok(())
}

/// A line through points of a chart.
fn curve<X, Y>(
    chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<X, Y>>,
    points: Vec<(f64, f64)>,
    stroke: Stroke,
) -> Result<(), PlotError>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    let style = stroke.style();
    match stroke.dash {
        None => chart.draw_series([PathElement::new(points, style)])?,
        Some((dash, gap)) => {
            let dashed = DashedPathElement::new(points, dash, gap, style);
            chart.draw_series([dashed])?
        }
    };
    Ok(())
}

/// A line through points in pixels.
fn line(area: &Area<'_>, points: &[(i32, i32)], stroke: Stroke) -> Result<(), PlotError> {
    let points = points.iter().copied();
    match stroke.dash {
        None => area.draw(&PathElement::new(
            points.collect::<Vec<_>>(),
            stroke.style(),
        ))?,
        Some((dash, gap)) => {
            area.draw(&DashedPathElement::new(points, dash, gap, stroke.style()))?;
        }
    }
    Ok(())
}

/// A pale box with stripes, in pixels.
fn hatch(
    area: &Area<'_>,
    (left, top): (i32, i32),
    (right, bottom): (i32, i32),
    colour: RGBColor,
) -> Result<(), PlotError> {
    const APART: i32 = 6;
    let pale = colour.mix(0.15).filled();
    area.draw(&Rectangle::new([(left, top), (right, bottom)], pale))?;
    // Each stripe rises from the lower edge; what would leave the box at a side is cut off there.
    let height = bottom - top;
    let mut foot = left - height + APART;
    while foot < right {
        let (from, to) = (foot.max(left), (foot + height).min(right));
        let stripe = [(from, bottom - (from - foot)), (to, bottom - (to - foot))];
        area.draw(&PathElement::new(stripe, colour.mix(0.8).stroke_width(1)))?;
        foot += APART;
    }
    Ok(())
}
