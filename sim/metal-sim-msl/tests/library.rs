//! Sources of all kinds through the real compiler: what is built, and what comes back of what is wrong.

use std::{env, fs, path::PathBuf, process};

use metal_sim_msl::{
    error::{Error, Severity},
    library::{Checks, Library, Options},
};

const RACES: Checks = Checks {
    races: true,
    strict_flags: false,
};

fn options() -> Options {
    Options {
        name: "a.metal".into(),
        ..Options::default()
    }
}

fn library(source: &str) -> Library {
    Library::from_source(source, &options()).unwrap_or_else(|e| panic!("{e}"))
}

/// The first error: file, line and text.
fn first_error(error: &Error) -> (String, u32, String) {
    let Error::Compile { messages } = error else {
        panic!("not from the compiler: {error}")
    };
    let first = messages
        .iter()
        .find(|m| m.severity == Severity::Error)
        .expect("an error");
    (first.file.clone(), first.line, first.text.clone())
}

/// Everything that the rewriter makes, once through the compiler.
const ALL: &str = r#"
#include <metal_stdlib>
using namespace metal;

constant bool scaled [[function_constant(0)]];
constant float scale [[function_constant(1)]];
constant bool both = scaled && is_function_constant_defined(scale);
constant float table[] = {1, 2, 4};

namespace deep {
constant uint2 size [[function_constant(2)]];

struct Params { uint n; float f; };

struct Pair {
    float a, b;
    Pair() thread = default;
    Pair() threadgroup = default;
    constexpr Pair(float x) thread : a(x), b{x} {}
    constexpr Pair(float x) constant : a(x), b{x} {}
    float sum() const thread { return a + b; }
    float sum() const threadgroup { return a + b; }
    float sum() const constant { return a + b; }
};

template <typename T> T first(device const T* x) { return x[0]; }
template <typename T> T first(threadgroup const T* x) { return x[0]; }

template <typename T, int N>
[[kernel, max_total_threads_per_threadgroup(N * 32)]] void reduce(
    device const T* x [[buffer(0)]],
    device T* y [[buffer(1), function_constant(both)]],
    constant Params& p,
    threadgroup T* shared [[threadgroup(0)]],
    uint3 at [[thread_position_in_grid]],
    ushort lane [[thread_index_in_simdgroup]],
    uint2 groups [[threadgroups_per_grid]],
    uint quad [[thread_index_in_quadgroup]]) {
    threadgroup T own[N][2], one;
    threadgroup Pair pair;
    alignas(16) threadgroup float wide[4];
    if (lane == 0) { own[0][1] = x[at.x]; one = x[0]; pair.a = 1; pair.b = 2; wide[0] = table[lane % 3]; }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    Pair mine(3);
    float value = first(x) + first(shared) + own[0][1] + one + pair.sum() + mine.sum() + wide[0] + p.f + quad;
    if (both) value *= scale + size.x + groups.y;
    y[at.x] = static_cast<T>(value);
}
template [[host_name("reduce_" "float")]] [[kernel]] decltype(reduce<float, 4>) reduce<float, 4>;
template [[host_name("reduce_half")]] [[kernel]] decltype(reduce<half, 2>) reduce<half, 2>;
}

kernel void convert(device bfloat* to, device const half* from, uint i [[thread_position_in_grid]]) {
    to[i] = static_cast<bfloat>(from[i]) + 1.5bf + bfloat(2.0H);
}
kernel void nothing() {}

template <int N> struct Sizes { int of[N]; };
template <typename T, int N>
kernel void deduce(device T* x [[buffer(0)]], const constant Sizes<N>* sizes [[buffer(1)]], constant int& n [[buffer(2)]]) {
    x[0] = sizes->of[N - 1] + n;
}
template [[host_name("deduce_3")]] [[kernel]] void deduce(
    device float* x [[buffer(0)]], const constant Sizes<3>* sizes [[buffer(1)]], const constant int& n [[buffer(2)]]);
"#;

#[test]
fn all_constructs_compile_alone_and_together() {
    let library = library(ALL);
    let names: Vec<_> = library
        .functions()
        .iter()
        .map(|f| f.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "convert",
            "nothing",
            "reduce_float",
            "reduce_half",
            "deduce_3"
        ]
    );
    library.check().unwrap();
    for checks in [Checks::default(), RACES] {
        for name in &names {
            library
                .build(name, checks)
                .unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        library.build_all(checks).unwrap_or_else(|e| panic!("{e}"));
    }
}

#[test]
fn what_is_built_is_kept() {
    let source = "kernel void f(device float* x) { x[0] = 1; }\nkernel void g(device float* x) { x[0] = 2; }";
    let f = library(source).build("f", Checks::default()).unwrap();
    assert_eq!(library(source).build("f", Checks::default()).unwrap(), f);
    let others = [
        library(source).build("g", Checks::default()).unwrap(),
        library(source).build("f", RACES).unwrap(),
        library(&source.replace("= 1", "= 3"))
            .build("f", Checks::default())
            .unwrap(),
    ];
    assert!(
        others.iter().all(|o| *o != f),
        "another kernel, instrumented, or changed: {others:?}"
    );
}

#[test]
fn several_at_once_build_one() {
    let source = format!(
        "kernel void f(device uint* x) {{ x[0] = {}; }}",
        process::id()
    );
    let built: Vec<PathBuf> = std::thread::scope(|scope| {
        let build = || library(&source).build("f", Checks::default()).unwrap();
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(build)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(built.iter().all(|b| *b == built[0] && b.is_file()));
}

#[test]
fn a_source_that_does_not_compile_names_its_line() {
    let source = "#include <metal_stdlib>\n\nkernel void f(device float* x,\n  uint i [[thread_position_in_grid]]) {\n  \
                  threadgroup float a[4]; x[i] =\n    nobody + 1;\n}\nkernel void g(device float* x) { x = 1.5; }\n";
    let library = library(source);
    let (file, line, text) = first_error(&library.build("f", Checks::default()).unwrap_err());
    assert_eq!((file.as_str(), line), ("a.metal", 6));
    assert_eq!(text, "use of undeclared identifier 'nobody'");
    let (_, line, _) = first_error(&library.build("g", Checks::default()).unwrap_err());
    assert_eq!(line, 8);
    let error = library.check().unwrap_err();
    let Error::Compile { messages } = &error else {
        panic!("{error}")
    };
    let lines: Vec<u32> = messages.iter().map(|m| m.line).collect();
    assert_eq!(lines, [6, 8], "all errors of the source at once: {error}");
    assert!(
        error
            .to_string()
            .starts_with("a.metal:6:5: error: use of undeclared"),
        "{error}"
    );
}

#[test]
fn a_kernel_may_have_the_name_of_a_function_of_the_library() {
    let source = "#include <metal_stdlib>\nusing namespace metal;\n\
                  kernel void dot(device float* x, uint i [[thread_position_in_grid]]) { x[i] = 1; }\n\
                  namespace own { [[max_total_threads_per_threadgroup(64)]] kernel void clamp(device float* x) { x[0] = 2; } }\n\
                  namespace { kernel void hidden(device float* x) { x[0] = 3; } }\n";
    let library = library(source);
    for name in ["dot", "clamp", "hidden"] {
        library
            .build(name, Checks::default())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
    }
}

#[test]
fn directives_that_fail_name_their_line() {
    let error = Library::from_source("\n#error \"no such thing\"\n", &options()).unwrap_err();
    let (file, line, text) = first_error(&error);
    assert_eq!((file.as_str(), line), ("a.metal", 2));
    assert!(text.contains("no such thing"), "{text}");
    let error = Library::from_source("#include \"nowhere.h\"\n", &options()).unwrap_err();
    assert_eq!(first_error(&error).1, 1);
}

#[test]
fn a_missing_function_names_the_nearest() {
    let library = library(
        "kernel void softmax_f32(device float* x) {}\nkernel void copy(device float* x) {}",
    );
    let error = library
        .build("softmax_f16", Checks::default())
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "no kernel `softmax_f16` in a.metal; did you mean `softmax_f32`?"
    );
    let error = library
        .build("zzz", Checks::default())
        .unwrap_err()
        .to_string();
    assert_eq!(error, "no kernel `zzz` in a.metal");
}

#[test]
fn an_unknown_qualifier_is_an_error_before_anything_is_compiled() {
    let error = Library::from_source("\n\nfragment float4 f() { return 1; }", &options())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("a.metal:3:1: error: qualifier `fragment`"),
        "{error}"
    );
}

#[test]
fn defines_versions_and_folders_count() {
    let folder = env::temp_dir().join(format!("msl-include-{}", process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("own.h"), "#define OWN 4\n").unwrap();
    let source = "#include \"own.h\"\n#if WIDTH == 8 && OWN == 4 && __METAL_VERSION__ == 320 && defined(__METAL__)\n\
                  kernel void f(device int* x) { x[0] = WIDTH; }\n#endif\n";
    let options = Options {
        defines: vec![("WIDTH".into(), "8".into())],
        language_version: (3, 2),
        includes: vec![folder.clone()],
        ..options()
    };
    assert_eq!(
        Library::from_source(source, &options)
            .unwrap()
            .functions()
            .len(),
        1
    );
    let narrow = Options {
        defines: Vec::new(),
        ..options
    };
    assert_eq!(
        Library::from_source(source, &narrow)
            .unwrap()
            .functions()
            .len(),
        0
    );
    fs::remove_dir_all(folder).unwrap();
}
