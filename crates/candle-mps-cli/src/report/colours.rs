//! The colours of the page and the plots, light and dark. Those of the peers differ for
//! colour-blind eyes as well, and all text has a contrast of 4.5 or more to its ground.

/// A value for each variable.
pub struct Colours(&'static [(&'static str, &'static str)]);

pub const LIGHT: Colours = Colours(&[
    ("paper", "#ffffff"),
    ("raised", "#f6f7f9"),
    ("ink", "#16191d"),
    ("muted", "#5b6470"),
    ("line", "#dfe3e8"),
    ("accent", "#0b62a8"),
    ("go", "#0a6b4d"),
    ("worthwhile", "#0b62a8"),
    ("lose", "#b3261e"),
    ("loss", "#fbeeec"),
    ("warn", "#fff4d6"),
    ("p0", "#16191d"),
    ("p1", "#b87400"),
    ("p2", "#0072b2"),
    ("p3", "#0a8f6a"),
    ("p4", "#c94f00"),
    ("p5", "#a14a86"),
    ("p6", "#5a63c9"),
]);

pub const DARK: Colours = Colours(&[
    ("paper", "#14171b"),
    ("raised", "#1d2126"),
    ("ink", "#e9ecef"),
    ("muted", "#a3acb7"),
    ("line", "#333a43"),
    ("accent", "#7cc0f5"),
    ("go", "#4fd6a8"),
    ("worthwhile", "#7cc0f5"),
    ("lose", "#ff9a8f"),
    ("loss", "#2c1e1f"),
    ("warn", "#3a3115"),
    ("p0", "#f4f6f8"),
    ("p1", "#f0b030"),
    ("p2", "#56b4e9"),
    ("p3", "#2fc79a"),
    ("p4", "#ff8a4c"),
    ("p5", "#e59ac9"),
    ("p6", "#a5adf5"),
]);

impl Colours {
    /// The variables as a style sheet sets them.
    pub fn variables(&self) -> String {
        let set = self
            .0
            .iter()
            .map(|(name, value)| format!("--{name}:{value};"));
        set.collect()
    }

    /// A text with its variables replaced, for a reader that knows none.
    pub fn applied(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, value)| {
            text.replace(&format!("var(--{name})"), value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the guidelines for accessible pages define it.
    fn luminance(colour: &str) -> f64 {
        let part = |at: usize| {
            let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.03928 {
                value / 12.92
            } else {
                ((value + 0.055) / 1.055).powf(2.4)
            }
        };
        0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
    }

    fn contrast(a: &str, b: &str) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn text_and_marks_stand_out_from_their_ground() {
        for colours in [LIGHT, DARK] {
            let get = |name: &str| colours.0.iter().find(|(it, _)| *it == name).unwrap().1;
            for ground in ["paper", "raised", "loss"] {
                for text in ["ink", "muted", "accent", "go", "worthwhile", "lose"] {
                    assert!(
                        contrast(get(text), get(ground)) >= 4.5,
                        "{text} on {ground}"
                    );
                }
                for mark in ["p0", "p1", "p2", "p3", "p4", "p5", "p6"] {
                    assert!(
                        contrast(get(mark), get(ground)) >= 3.0,
                        "{mark} on {ground}"
                    );
                }
            }
            assert!(contrast(get("ink"), get("warn")) >= 4.5);
        }
    }

    #[test]
    fn plots_use_no_other_variables() {
        let applied = LIGHT.applied(crate::report::plot::CSS);
        assert!(!applied.contains("var("), "{applied}");
        assert_eq!(LIGHT.0.len(), DARK.0.len());
    }
}
