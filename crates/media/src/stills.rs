//! Stills of a finished video: one picture for a list, and a sheet of small ones to skim through.
//!
//! They are for viewers, so they have places of their own: no number of them takes a processor from a job's encoding.

use crate::child::{QUIET, REPORT, encoded, file, within, words};
use crate::error::MediaError;
use crate::ffmpeg::Ffmpeg;
use crate::footage::{COLOURS, Footage, READ_MP4, seconds};
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::sync::SemaphorePermit;

/// Longest time that one still may take, waiting for its turn included.
pub const STILL_DEADLINE: Duration = Duration::from_secs(60);
/// Longest side of a thumbnail, in pixels.
pub const THUMBNAIL_SIDE_MAX: u32 = 512;
/// Width of a tile of a spritesheet, in pixels, unless that would make it too high.
pub const TILE_WIDTH: u32 = 160;
/// Largest height of a tile of a spritesheet, in pixels.
pub const TILE_HEIGHT_MAX: u32 = 320;
/// Most tiles side by side.
pub const SHEET_COLUMNS_MAX: u32 = 10;
/// Most tiles one below the other.
pub const SHEET_ROWS_MAX: u32 = 10;

/// How a frame becomes smaller: every pixel of it counts.
const SMALLER: &str = "flags=area+accurate_rnd+full_chroma_int";

/// How a spritesheet is divided. Every place of it has a tile; they are read like text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sheet {
    /// Tiles side by side.
    pub columns: u32,
    /// Tiles one below the other.
    pub rows: u32,
    /// Width of each, in pixels.
    pub tile_width: u32,
    /// Height of each, in pixels.
    pub tile_height: u32,
}

impl Sheet {
    /// As many tiles as there are frames, or as fit; the last row is full, too.
    fn of(footage: &Footage) -> Self {
        let tiles = footage.frames.min(SHEET_COLUMNS_MAX * SHEET_ROWS_MAX);
        let columns = tiles.clamp(1, SHEET_COLUMNS_MAX);
        let [tile_width, tile_height] = fit(footage.size, [TILE_WIDTH, TILE_HEIGHT_MAX]);
        Self {
            columns,
            rows: (tiles / columns).max(1),
            tile_width,
            tile_height,
        }
    }

    const fn tiles(self) -> u32 {
        self.columns * self.rows
    }
}

impl Ffmpeg {
    /// A place for what a request waits for.
    pub(crate) async fn still_place(&self) -> Result<SemaphorePermit<'_>, MediaError> {
        // The semaphore is never closed.
        let place = self.still_places.acquire().await;
        Ok(place.map_err(io::Error::other)?)
    }

    /// The frame in the middle of a video that we made, as a WebP picture at `output`: in the video's own size, or
    /// smaller, so that no side is longer than [`THUMBNAIL_SIDE_MAX`]. Nothing of value is at `output` after an error.
    ///
    /// Dropping the future kills the child.
    ///
    /// # Errors
    /// See [`MediaError`].
    pub async fn thumbnail(&self, video: &Path, output: &Path) -> Result<(), MediaError> {
        within(STILL_DEADLINE, async {
            let _place = self.still_place().await?;
            let footage = self.footage(video).await?;
            let arguments = thumbnail_arguments(video, &footage, output);
            encoded(self.spawn(arguments, Stdio::null())?, 1).await
        })
        .await
    }

    /// Frames of a video that we made, evenly spaced and beginning with the first, as one JPEG picture at `output`.
    /// Nothing of value is there after an error.
    ///
    /// Dropping the future kills the child.
    ///
    /// # Errors
    /// See [`MediaError`].
    pub async fn spritesheet(&self, video: &Path, output: &Path) -> Result<Sheet, MediaError> {
        within(STILL_DEADLINE, async {
            let _place = self.still_place().await?;
            let footage = self.footage(video).await?;
            let sheet = Sheet::of(&footage);
            let arguments = sheet_arguments(video, &footage, sheet, output);
            encoded(self.spawn(arguments, Stdio::null())?, 1).await?;
            Ok(sheet)
        })
        .await
    }
}

fn thumbnail_arguments(video: &Path, footage: &Footage, output: &Path) -> Vec<OsString> {
    let [width, height] = footage.size;
    let bounds = [width, height].map(|side| side.min(THUMBNAIL_SIDE_MAX));
    let [width, height] = fit(footage.size, bounds);
    let before = footage.micros_before((footage.frames - 1) / 2);
    let mut arguments = words(&[QUIET, REPORT, READ_MP4, "-ss", &seconds(before), "-i"]);
    arguments.push(file(video));
    arguments.extend(words(&[
        "-map 0:v:0 -frames:v 1 -vf",
        // The encoder knows how a WebP has its colours: it gets them as RGB.
        &format!("scale={width}:{height}:{COLOURS}:{SMALLER},format=bgra"),
        "-c:v libwebp -quality 80 -threads 1 -f webp",
    ]));
    arguments.push(file(output));
    arguments
}

fn sheet_arguments(video: &Path, footage: &Footage, sheet: Sheet, output: &Path) -> Vec<OsString> {
    let Sheet {
        columns,
        rows,
        tile_width,
        tile_height,
    } = sheet;
    let (frames, tiles) = (footage.frames, sheet.tiles());
    let mut arguments = words(&[QUIET, REPORT, READ_MP4, "-i"]);
    arguments.push(file(video));
    let filters = [
        // Whole numbers: exactly as many frames pass as there are tiles.
        format!("select='lt(mod(n*{tiles},{frames}),{tiles})'"),
        format!("scale={tile_width}:{tile_height}:{COLOURS}:{SMALLER}"),
        // Halved colours would not meet at the edge of an odd tile.
        "format=rgb24".into(),
        format!("tile={columns}x{rows}"),
        // What a JPEG says of its colours is always this.
        "scale=out_color_matrix=bt601:out_range=pc,format=yuvj420p".into(),
    ];
    arguments.extend(words(&[
        "-map 0:v:0 -frames:v 1 -vf",
        &filters.join(","),
        "-c:v mjpeg -q:v 4 -threads 1 -f mjpeg",
    ]));
    arguments.push(file(output));
    arguments
}

/// The largest size of the same aspect within bounds. Never empty.
fn fit(size: [u32; 2], bounds: [u32; 2]) -> [u32; 2] {
    let [width, height] = size.map(|side| u64::from(side.max(1)));
    let [width_max, height_max] = bounds.map(u64::from);
    // The side whose bound is narrower for its length decides.
    let (bound, side) = match width_max * height <= height_max * width {
        true => (width_max, width),
        false => (height_max, height),
    };
    [width, height].map(|length| {
        let scaled = (length * bound + side / 2) / side;
        // No more than a bound, which was 32 bits long.
        u32::try_from(scaled.max(1)).unwrap_or(u32::MAX)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_aspect_stays_and_no_side_is_beyond_its_bound_or_nothing() {
        assert_eq!(fit([768, 512], [512, 512]), [512, 341]);
        assert_eq!(fit([512, 768], [512, 512]), [341, 512]);
        assert_eq!(fit([66, 50], [66, 50]), [66, 50]);
        assert_eq!(fit([64, 64], [160, 320]), [160, 160]);
        assert_eq!(fit([16, 8_192], [160, 320]), [1, 320]);
        assert_eq!(fit([8_192, 2], [512, 2]), [512, 1]);
    }
}
