//! Plots as PNG, for places that show no SVG: the light colours, twice as many pixels, and letters
//! that this program brings along, since a machine may have none.

use std::sync::Arc;

use resvg::tiny_skia::{Color, Pixmap, Transform};
use resvg::usvg::fontdb::Database;
use resvg::usvg::{Options, Tree};

use super::colours::LIGHT;
use super::plot::Drawing;

const SCALE: f32 = 2.0;

/// Why a plot could not be drawn; the page has it all the same.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not the SVG that resvg knows.
    #[error(transparent)]
    Svg(#[from] resvg::usvg::Error),
    /// It has no pixels, or too many for the memory.
    #[error("a picture of {width} x {height} cannot be made")]
    Size { width: u32, height: u32 },
    /// The pixels could not be packed.
    #[error("the picture cannot be packed: {0}")]
    Packed(String),
}

/// The bytes of the file.
pub fn render(drawing: &Drawing) -> Result<Vec<u8>, Error> {
    let mut fonts = Database::new();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    let family = fonts.faces().next().and_then(|face| face.families.first());
    let family = family.map(|(name, _)| name.clone()).unwrap_or_default();
    let options = Options {
        font_family: family,
        fontdb: Arc::new(fonts),
        ..Options::default()
    };
    let tree = Tree::from_str(&LIGHT.applied(&drawing.file()), &options)?;
    let size = tree.size();
    let (width, height) = (
        (size.width() * SCALE).ceil() as u32,
        (size.height() * SCALE).ceil() as u32,
    );
    let mut pixels = Pixmap::new(width, height).ok_or(Error::Size { width, height })?;
    pixels.fill(Color::WHITE);
    resvg::render(
        &tree,
        Transform::from_scale(SCALE, SCALE),
        &mut pixels.as_mut(),
    );
    pixels
        .encode_png()
        .map_err(|error| Error::Packed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::plot::Width;
    use crate::report::{fixture, plot};

    #[test]
    fn text_and_colours_are_in_the_picture() {
        let bench = fixture::bench();
        let mut drawing = plot::legend(&bench, Width::Wide, |_| true, true);
        let file = render(&drawing).unwrap();
        let picture = Pixmap::decode_png(&file).unwrap();
        assert_eq!(picture.width(), drawing.width as u32 * 2);
        let mut colours: Vec<_> = picture
            .pixels()
            .iter()
            .map(|it| (it.red(), it.green(), it.blue()))
            .collect();
        colours.sort_unstable();
        colours.dedup();
        assert!(colours.len() > 50, "{}", colours.len());
        // Without letters it would be another picture.
        drawing.body = drawing.body.replace("</text>", "mm</text>");
        assert_ne!(render(&drawing).unwrap(), file);
    }

    #[test]
    fn what_cannot_be_drawn_is_an_error() {
        let broken = Drawing {
            width: 10.0,
            height: 10.0,
            body: "<".to_owned(),
        };
        assert!(matches!(render(&broken), Err(Error::Svg(_))));
    }
}
