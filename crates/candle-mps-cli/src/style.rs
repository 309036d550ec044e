//! How words stand out on a terminal. The stream drops it where nobody would see it.

use clap::builder::styling::{AnsiColor, Style};

pub const PLAIN: Style = Style::new();
pub const TOPIC: Style = PLAIN.bold();
pub const FAINT: Style = PLAIN.dimmed();
pub const GOOD: Style = AnsiColor::Green.on_default().bold();
pub const BAD: Style = AnsiColor::Red.on_default().bold();
pub const NOTE: Style = AnsiColor::Yellow.on_default().bold();
