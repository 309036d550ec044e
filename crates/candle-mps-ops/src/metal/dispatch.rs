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
use crate::ops::calls;
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

    /// What the table's column counts: elements, or multiplications of a product.
    fn work(self) -> usize {
        match self {
            Self::Elements(count) => count,
            Self::Product {
                rows,
                inner,
                columns,
                count,
            } => [inner, columns, count]
                .into_iter()
                .fold(rows, usize::saturating_mul),
        }
    }

    /// Whether it is a product of so few rows that a kernel reads rather than multiplies.
    fn has_few_rows(self) -> bool {
        matches!(self, Self::Product { rows, .. } if rows < 64)
    }
}

/// A row of the table.
struct Choice {
    /// The op's name, or `*`.
    op: &'static str,
    /// None: all of them.
    dtype: Option<DType>,
    /// From so many elements or multiplications on.
    from: usize,
    route: Route,
    why: &'static str,
}

impl Choice {
    fn fits(&self, op: &str, dtype: DType, size: Size) -> bool {
        let large = self.from == 0 || (size.work() >= self.from && !size.has_few_rows());
        (self.op == op || self.op == "*") && self.dtype.is_none_or(|its| its == dtype) && large
    }
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

/// A product of 512 x 512 x 512: from here on its time is that of its arithmetic.
const LARGE: usize = 512 * 512 * 512;

/// What ships. Rows that count from a size are for products of 64 rows and more.
const TABLE: &[Choice] = &[
    row(
        "matmul",
        LARGE,
        Route::Candle,
        "Candle's large products are MLX's, tuned on Apple's GPUs; ours are not measured there yet",
    ),
    row(
        "linear",
        LARGE,
        Route::Candle,
        "as matmul: what bias and activation cost beside so large a product is a few percent",
    ),
    row(
        "*",
        0,
        Route::Ours,
        "one dispatch where Candle's ops take several, and a backward pass of its own",
    ),
];

/// The name of the variable that overrules the table.
const VARIABLE: &str = "CANDLE_MPS_ROUTE";

/// What is wrong with the variable.
#[derive(Clone, Debug, PartialEq)]
enum Problem {
    Route(String),
    Op(String),
}

/// What the variable says: an op or `*`, and its route.
type Forced = Vec<(String, Route)>;

/// The ops that have routes: their own names, not those of all functions that lead to them.
fn with_routes() -> impl Iterator<Item = &'static str> {
    let names = calls::NAMES.iter().copied();
    names.filter(|name| *name != "adamw")
}

fn parse(text: &str) -> std::result::Result<Forced, Problem> {
    let parts = text.split(',').map(str::trim);
    parts
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (op, route) = part.split_once('=').unwrap_or(("*", part));
            let known = [Route::Ours, Route::Mps, Route::Candle];
            let named = known.into_iter().find(|it| name(*it) == route.trim());
            let route = named.ok_or_else(|| Problem::Route(route.trim().to_owned()))?;
            let op = op.trim();
            match op == "*" || with_routes().any(|name| name == op) {
                true => Ok((op.to_owned(), route)),
                false => Err(Problem::Op(op.to_owned())),
            }
        })
        .collect()
}

/// The variable as it was at the first call; the error is what names no route or no op.
fn from_environment() -> &'static std::result::Result<Forced, Problem> {
    static FORCED: OnceLock<std::result::Result<Forced, Problem>> = OnceLock::new();
    FORCED.get_or_init(|| parse(&env::var(VARIABLE).unwrap_or_default()))
}

impl From<&Problem> for Error {
    fn from(problem: &Problem) -> Self {
        let variable = VARIABLE;
        match problem.clone() {
            Problem::Route(route) => Self::Route { variable, route },
            Problem::Op(op) => Self::RouteOf {
                variable,
                op,
                known: with_routes().collect::<Vec<_>>().join(", "),
            },
        }
    }
}

fn forced(op: &str) -> Result<Option<Route>> {
    match from_environment() {
        // What is said of this op counts more than what is said of all.
        Ok(forced) => Ok(["*", op].into_iter().fold(None, |found, name| {
            let of_name = forced.iter().rfind(|(its, _)| its == name);
            of_name.map(|(_, route)| *route).or(found)
        })),
        Err(problem) => Err(problem.into()),
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
    /// From so many elements, or multiplications of a product, on.
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
            Err(problem) => Err(Error::from(problem).to_string()),
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
            let row = TABLE.iter().find(|row| row.fits(op, dtype, size));
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
    let library::Abilities { simdgroups, bf16 } = library::abilities(asked.device);
    match asked.dtype {
        DType::F64 => Some("Metal has no f64"),
        _ if !simdgroups => Some("this is no GPU of Apple's, or one before the M1"),
        DType::BF16 if !bf16 => Some("Metal's compiler has no bf16 here: macOS 14 is needed"),
        _ => asked.refused,
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
        assert_eq!(parse("softmax=fast"), Err(Problem::Route("fast".into())));
        assert_eq!(parse("softmx=ours"), Err(Problem::Op("softmx".into())));
    }

    #[test]
    fn the_table_can_be_shown() {
        let table = Routes::now().table;
        assert_eq!(table.len(), TABLE.len());
        let last = table.last().unwrap();
        assert_eq!((last.op, last.from), ("*", 0));
    }

    #[test]
    fn large_products_of_many_rows_are_candles() {
        let product = |rows, inner, columns| Size::Product {
            rows,
            inner,
            columns,
            count: 1,
        };
        let route = |op, size| {
            let fits = |row: &&Choice| row.fits(op, DType::F32, size);
            TABLE.iter().find(fits).map(|row| row.route)
        };
        assert_eq!(route("matmul", product(512, 512, 512)), Some(Route::Candle));
        assert_eq!(route("matmul", product(512, 512, 511)), Some(Route::Ours));
        assert_eq!(route("linear", product(63, 4096, 4096)), Some(Route::Ours));
        assert_eq!(
            route("linear", product(64, 4096, 4096)),
            Some(Route::Candle)
        );
        assert_eq!(route("lora", product(512, 512, 512)), Some(Route::Ours));
        assert_eq!(route("softmax", Size::Elements(1 << 30)), Some(Route::Ours));
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
