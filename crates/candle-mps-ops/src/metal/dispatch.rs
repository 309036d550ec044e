//! Which route an op takes: one table of (op, type, size), with the reason beside each row.
//!
//! The first row that fits decides. `CANDLE_MPS_ROUTE` overrules the table: a route for all ops (`candle`), or for
//! some (`matmul=ours,softmax=candle`). A route that cannot take the operands gives way to the next one, and at the end
//! of all there is Candle's own op. Every choice is a `tracing` event at level DEBUG, of target `candle_mps::route`.

use std::env;
use std::sync::OnceLock;

use candle_core::{DType, MetalDevice, Tensor};

use super::library;
use crate::error::{Error, Result};
use crate::ops::fused::Route;

/// How much work an op is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    /// So many elements go in.
    Elements(usize),
    /// A product of [rows, inner] and [inner, columns], `count` times.
    Product {
        rows: usize,
        inner: usize,
        columns: usize,
        count: usize,
    },
}

impl Size {
    /// The elements of the first operand.
    pub(crate) fn elements(operands: &[(&'static str, &Tensor)]) -> Self {
        Self::Elements(operands.first().map_or(0, |(_, x)| x.elem_count()))
    }

    /// What the table's column counts: elements, or rows of a product.
    fn bucket(self) -> usize {
        match self {
            Self::Elements(count) => count,
            Self::Product { rows, .. } => rows,
        }
    }
}

/// A row of the table.
struct Choice {
    /// The op's name, or `*`.
    op: &'static str,
    /// None: all of them.
    dtype: Option<DType>,
    /// From so many elements or rows on.
    from: usize,
    route: Route,
    why: &'static str,
}

const fn row(op: &'static str, from: usize, route: Route, why: &'static str) -> Choice {
    Choice {
        op,
        dtype: None,
        from,
        route,
        why,
    }
}

/// What ships.
const TABLE: &[Choice] = &[row(
    "*",
    0,
    Route::Ours,
    "one dispatch where Candle's ops take several, and a backward pass of its own",
)];

/// The name of the variable that overrules the table.
const VARIABLE: &str = "CANDLE_MPS_ROUTE";

/// What the variable says: an op or `*`, and its route.
type Forced = Vec<(String, Route)>;

fn parse(text: &str) -> std::result::Result<Forced, String> {
    let parts = text.split(',').map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (op, route) = part.split_once('=').unwrap_or(("*", part));
            let known = [Route::Ours, Route::Mps, Route::Candle];
            let named = known.into_iter().find(|it| name(*it) == route.trim());
            let route = named.ok_or_else(|| route.trim().to_owned())?;
            Ok((op.trim().to_owned(), route))
        })
        .collect()
}

/// The variable as it was at the first call; the error is what names no route.
fn from_environment() -> &'static std::result::Result<Forced, String> {
    static FORCED: OnceLock<std::result::Result<Forced, String>> = OnceLock::new();
    FORCED.get_or_init(|| parse(&env::var(VARIABLE).unwrap_or_default()))
}

fn no_route(route: &str) -> Error {
    Error::Route {
        variable: VARIABLE,
        route: route.to_owned(),
    }
}

fn forced(op: &str) -> Result<Option<Route>> {
    match from_environment() {
        // What is said of this op counts more than what is said of all.
        Ok(forced) => Ok(["*", op].into_iter().fold(None, |found, name| {
            let of_name = forced.iter().rfind(|(its, _)| its == name);
            of_name.map(|(_, route)| *route).or(found)
        })),
        Err(route) => Err(no_route(route)),
    }
}

/// Who decides on routes, as plain data for those who show it.
#[derive(Clone, Debug)]
pub struct Routes {
    /// Ops, or `*`, and the routes that the environment forces them on, or why that cannot be read.
    pub forced: std::result::Result<Vec<(String, &'static str)>, String>,
    /// What decides otherwise: the first row that fits.
    pub table: Vec<TableRow>,
}

/// A row of the table of routes.
#[derive(Clone, Debug)]
pub struct TableRow {
    /// The op's name, or `*`.
    pub op: &'static str,
    /// None: all of them.
    pub dtype: Option<&'static str>,
    /// From so many elements, or rows of a product, on.
    pub from: usize,
    /// `ours`, `mps` or `candle`.
    pub route: &'static str,
    /// The reason.
    pub why: &'static str,
}

impl Routes {
    pub(crate) fn now() -> Self {
        let forced = match from_environment() {
            Ok(forced) => Ok(forced
                .iter()
                .map(|(op, route)| (op.clone(), name(*route)))
                .collect()),
            Err(route) => Err(no_route(route).to_string()),
        };
        let row = |it: &Choice| TableRow {
            op: it.op,
            dtype: it.dtype.map(|dtype| dtype.as_str()),
            from: it.from,
            route: name(it.route),
            why: it.why,
        };
        Self {
            forced,
            table: TABLE.iter().map(row).collect(),
        }
    }
}

/// What the variable calls a route.
const fn name(route: Route) -> &'static str {
    match route {
        Route::Ours => "ours",
        Route::Mps => "mps",
        Route::Candle => "candle",
    }
}

/// What an op can do with its operands, as far as it is known before the call.
pub(crate) struct Asked<'a> {
    pub(crate) op: &'static str,
    pub(crate) dtype: DType,
    pub(crate) size: Size,
    /// Why our kernels do not take these operands, if so.
    pub(crate) refused: Option<&'static str>,
    /// Whether there is an MPS route that takes them.
    pub(crate) mps: bool,
    pub(crate) device: &'a MetalDevice,
}

/// The route for this call.
pub(crate) fn route(asked: &Asked<'_>) -> Result<Route> {
    let Asked {
        op, dtype, size, ..
    } = *asked;
    let (wanted, why) = match forced(op)? {
        Some(route) => (route, VARIABLE),
        None => {
            let fits = |row: &&Choice| {
                (row.op == op || row.op == "*")
                    && row.dtype.is_none_or(|its| its == dtype)
                    && size.bucket() >= row.from
            };
            let row = TABLE.iter().find(fits);
            row.map_or((Route::Candle, "no row of the table"), |row| {
                (row.route, row.why)
            })
        }
    };
    let refused = match wanted {
        Route::Mps if !asked.mps => Some("MPS does not compute this"),
        _ => None,
    };
    let (wanted, why) = match refused {
        Some(refused) => {
            tracing::debug!(target: "candle_mps::route", op, ?dtype, ?size, route = ?wanted, refused);
            (Route::Ours, "the next route")
        }
        None => (wanted, why),
    };
    let refused = match wanted {
        Route::Ours => kernels_refuse(asked),
        _ => None,
    };
    let (route, why) = match refused {
        Some(refused) => (Route::Candle, refused),
        None => (wanted, why),
    };
    tracing::debug!(target: "candle_mps::route", op, ?dtype, ?size, ?route, why);
    Ok(route)
}

fn kernels_refuse(asked: &Asked<'_>) -> Option<&'static str> {
    match asked.dtype {
        DType::F32 | DType::F16 => asked.refused,
        DType::BF16 if library::knows_bf16(asked.device) => asked.refused,
        DType::BF16 => Some("this system's Metal has no bf16: macOS 14 is needed"),
        _ => Some("Metal has no f64"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_names_ops_and_routes() {
        let parsed = parse("candle, softmax = ours,matmul=mps,").unwrap();
        let expected = [
            ("*", Route::Candle),
            ("softmax", Route::Ours),
            ("matmul", Route::Mps),
        ];
        let expected = expected.map(|(op, route)| (op.to_owned(), route));
        assert_eq!(parsed, expected);
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse("softmax=fast").unwrap_err(), "fast");
    }

    #[test]
    fn the_table_can_be_shown() {
        let table = Routes::now().table;
        assert_eq!(table.len(), TABLE.len());
        let last = table.last().unwrap();
        assert_eq!((last.op, last.from), ("*", 0));
    }

    #[test]
    fn every_row_has_a_reason_and_none_is_unreachable() {
        for (at, row) in TABLE.iter().enumerate() {
            assert!(row.why.len() > 20, "{}: {}", row.op, row.why);
            let before = &TABLE[..at];
            let hidden = before.iter().any(|it| {
                (it.op == row.op || it.op == "*")
                    && it.from <= row.from
                    && (it.dtype.is_none() || it.dtype == row.dtype)
            });
            assert!(!hidden, "{} from {}", row.op, row.from);
        }
        assert_eq!(TABLE.last().map(|row| row.op), Some("*"));
    }
}
