//! Candle's own kernels, taken from the cargo registry: every file is understood whole, and kernels of each compile.

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Instant,
};

use metal_sim_msl::library::{ArgumentKind, Checks, Library, Options};

/// What candle-metal-kernels 0.11.1 has.
const KERNELS: usize = 1734;

/// The `.metal` files of candle-metal-kernels, where cargo put them.
fn files() -> Vec<PathBuf> {
    let home = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .unwrap_or_else(|| {
            PathBuf::from(env::var_os("HOME").expect("cargo needs a home as well")).join(".cargo")
        });
    let sources = fs::read_dir(home.join("registry/src"))
        .expect("the registry of cargo, filled by `cargo fetch`");
    let mut files: Vec<PathBuf> = sources
        .map(|index| {
            index
                .unwrap()
                .path()
                .join("candle-metal-kernels-0.11.1/src/metal_src")
        })
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .map(|file| file.unwrap().path())
        .filter(|file| file.extension().is_some_and(|e| e == "metal"))
        .collect();
    files.sort();
    assert!(
        !files.is_empty(),
        "candle-metal-kernels 0.11.1 is not in {}: run `cargo fetch`",
        home.display()
    );
    files
}

fn library(file: &Path) -> Library {
    let name = file.file_name().unwrap().to_string_lossy().into_owned();
    let source = fs::read_to_string(file).unwrap();
    Library::from_source(
        &source,
        &Options {
            name,
            ..Options::default()
        },
    )
    .unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn every_kernel_of_candle_is_understood() {
    let mut all = 0;
    for file in files() {
        let begin = Instant::now();
        let library = library(&file);
        let count = library.functions().len();
        println!(
            "{:45} {count:5} kernels {:?}",
            library.name(),
            begin.elapsed()
        );
        all += count;
        for function in library.functions() {
            assert!(
                !function.arguments.is_empty(),
                "{} has arguments",
                function.name
            );
            for argument in &function.arguments {
                assert!(
                    !argument.name.is_empty() && !argument.type_name.is_empty(),
                    "{}: {argument:?}",
                    function.name
                );
            }
        }
    }
    println!("{all} kernels");
    assert_eq!(all, KERNELS);
}

#[test]
fn arguments_are_numbered_as_metal_numbers_them() {
    let file = files()
        .into_iter()
        .find(|f| f.ends_with("scaled_dot_product_attention.metal"))
        .unwrap();
    let library = library(&file);
    let function = library.function("sdpa_vector_float_64").unwrap();
    let buffer = |name: &str| function.arguments.iter().find(|a| a.name == name).unwrap();
    // Four are numbered in the source; the others follow, the mask counted although a function constant can remove it.
    assert_eq!(buffer("gqa_factor").kind, ArgumentKind::Buffer(4));
    assert_eq!(buffer("mask").kind, ArgumentKind::Buffer(10));
    assert_eq!(
        buffer("mask").constant.as_deref(),
        Some("sdpa_vector_has_mask")
    );
    assert_eq!(buffer("mask_head_stride").kind, ArgumentKind::Buffer(12));
    assert!(buffer("out").writable && !buffer("queries").writable);
}

/// The first, the middle and the last kernel of each file.
#[test]
fn kernels_of_every_file_compile() {
    for file in files() {
        let library = library(&file);
        let functions = library.functions();
        let Some(last) = functions.len().checked_sub(1) else {
            continue;
        };
        for function in [&functions[0], &functions[last / 2], &functions[last]] {
            for races in [false, true] {
                let begin = Instant::now();
                let checks = Checks {
                    races,
                    ..Checks::default()
                };
                library
                    .build(&function.name, checks)
                    .unwrap_or_else(|e| panic!("{}: {e}", function.name));
                println!(
                    "{:40} {:40} races {races}: {:?}",
                    library.name(),
                    function.name,
                    begin.elapsed()
                );
            }
        }
    }
}

#[test]
#[ignore = "compiles all 1734 kernels twice, which takes minutes"]
fn every_kernel_of_candle_compiles() {
    for file in files() {
        let library = library(&file);
        if library.functions().is_empty() {
            continue;
        }
        for races in [false, true] {
            let begin = Instant::now();
            library
                .build_all(Checks {
                    races,
                    ..Checks::default()
                })
                .unwrap_or_else(|e| panic!("{}: {e}", library.name()));
            println!("{:45} races {races}: {:?}", library.name(), begin.elapsed());
        }
    }
}
