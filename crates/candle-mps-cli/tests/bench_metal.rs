//! `candle-mps bench` on a GPU, which is the simulated one here, and without one.

mod support;

#[cfg(feature = "metal")]
use support::cell;
use support::{Place, text};

/// Rows on a GPU in front of one on the processor.
const ON_METAL: &str = "
[[rows]]
op = \"softmax\"
shapes = [\"4x64\"]
device = \"metal\"
[[rows]]
op = \"softmax\"
shapes = [\"4x64\"]
regime = \"chain\"
device = \"metal\"
[[rows]]
op = \"softmax\"
shapes = [\"4x64\"]
regime = \"encode\"
device = \"metal\"
[[rows]]
op = \"rms_norm\"
pass = \"backward\"
shapes = [\"2x64\"]
device = \"metal\"
[[rows]]
op = \"matmul\"
shapes = [\"8x8x8\"]
device = \"metal\"
[[rows]]
op = \"softmax\"
shapes = [\"2x64\"]
dtype = \"f64\"
device = \"metal\"
[[rows]]
op = \"softmax\"
shapes = [\"2x64\"]
";

#[test]
#[cfg(feature = "metal")]
fn a_gpu_is_measured_in_every_regime_and_after_the_processor() {
    let place = Place::new("metal");
    place.write("gpu.toml", ON_METAL);
    let usual = place.bench(&[
        "--shapes",
        "gpu.toml",
        "--against",
        "candle,ours-kernels,ours-mps",
    ]);
    assert_eq!(usual.status.code(), Some(0), "{}", text(&usual.stderr));
    let table = text(&usual.stdout);
    let at = |device: &str| {
        table
            .find(device)
            .unwrap_or_else(|| panic!("{device} in\n{table}"))
    };
    assert!(at("\non cpu") < at("\non metal, "), "{table}");
    let results = place.results("candle-mps-report");
    let devices: Vec<_> = results["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| &row["device"])
        .collect();
    assert_eq!(
        devices,
        ["cpu", "metal", "metal", "metal", "metal", "metal", "metal"]
    );
    for row in 0..6 {
        for peer in ["ours", "candle"] {
            assert_eq!(cell(&results, row, peer)["is"], "measured", "{row} {peer}");
        }
        // Routes of their own have a part in what they can change.
        for (peer, rows) in [("ours-mps", &[1, 2, 3, 5][..]), ("ours-kernels", &[5])] {
            let expected = match rows.contains(&row) {
                true => "measured",
                false => "none",
            };
            assert_eq!(cell(&results, row, peer)["is"], expected, "{row} {peer}");
        }
        // The first call of a process is told where nothing was called to make it.
        let first = &cell(&results, row, "ours")["first"];
        let median = cell(&results, row, "ours")["median"].as_f64().unwrap();
        match row {
            1 | 5 => assert!(first.as_f64().unwrap() > median, "{first} {median}"),
            _ => assert!(first.is_null(), "{row}: {first}"),
        }
    }
    // There is no f64.
    assert_eq!(cell(&results, 6, "ours")["is"], "none");
    let titles = results["peers"].to_string();
    for route in ["mps", "ours"] {
        let title = format!("CANDLE_MPS_ROUTE={route}");
        assert!(titles.contains(&title), "{titles}");
    }
    let arguments = [
        "--shapes",
        "gpu.toml",
        "--against",
        "candle",
        "--ops",
        "rms_norm",
    ];
    let metal = place.bench(&[&arguments[..], &["--device", "metal"]].concat());
    assert_eq!(metal.status.code(), Some(0), "{}", text(&metal.stderr));
    let cpu = place.bench(&[&arguments[..], &["--device", "cpu"]].concat());
    assert_eq!(cpu.status.code(), Some(2));
    assert!(
        text(&cpu.stderr).contains("--device metal"),
        "{}",
        text(&cpu.stderr)
    );
}

#[test]
#[cfg(not(feature = "metal"))]
fn without_metal_its_rows_wait_and_asking_for_them_is_an_error() {
    let place = Place::new("no-metal");
    place.write("gpu.toml", ON_METAL);
    let usual = place.bench(&["--shapes", "gpu.toml", "--against", "candle"]);
    assert_eq!(usual.status.code(), Some(0), "{}", text(&usual.stderr));
    let results = place.results("candle-mps-report");
    assert_eq!(results["rows"].as_array().unwrap().len(), 1);
    for device in ["metal", "all"] {
        let asked = place.bench(&["--shapes", "gpu.toml", "--device", device]);
        assert_eq!(asked.status.code(), Some(1));
        let said = text(&asked.stderr);
        assert!(
            said.contains("--features metal`") && said.contains("--device cpu"),
            "{said}"
        );
    }
    let none = place.bench(&["--shapes", "gpu.toml", "--ops", "rms_norm"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(
        text(&none.stderr).contains("these rows are on metal"),
        "{}",
        text(&none.stderr)
    );
}
