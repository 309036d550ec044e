//! Sizes and alignments of every type, limits, traits, and what must not compile.

use crate::library::{Library, compile};

/// By scalar: its size. Vectors of 3 take the room of 4; packed ones do not.
const SCALARS: [(&str, usize); 12] = [
    ("bool", 1),
    ("char", 1),
    ("uchar", 1),
    ("short", 2),
    ("ushort", 2),
    ("int", 4),
    ("uint", 4),
    ("long", 8),
    ("ulong", 8),
    ("half", 2),
    ("bfloat", 2),
    ("float", 4),
];

#[test]
fn sizes_and_alignments_are_metals() {
    let mut source = String::new();
    let mut assert = |name: &str, size: usize, align: usize| {
        source += &format!(
            "static_assert(sizeof({name}) == {size} && alignof({name}) == {align}, \"{name}\");\n"
        );
    };
    for (scalar, size) in SCALARS {
        assert(scalar, size, size);
        for n in 2..=4 {
            let room = size * if n == 3 { 4 } else { n };
            assert(&format!("{scalar}{n}"), room, room);
            assert(&format!("vec<{scalar}, {n}>"), room, room);
            assert(&format!("packed_{scalar}{n}"), n * size, size);
        }
    }
    for (scalar, size) in [("half", 2), ("bfloat", 2), ("float", 4)] {
        for columns in 2..=4 {
            for rows in 2..=4 {
                let column = size * if rows == 3 { 4 } else { rows };
                assert(
                    &format!("{scalar}{columns}x{rows}"),
                    columns * column,
                    column,
                );
            }
        }
    }
    for (name, size) in [
        ("atomic_int", 4),
        ("atomic_uint", 4),
        ("atomic_float", 4),
        ("atomic_bool", 1),
        ("atomic_ulong", 8),
    ] {
        assert(name, size, size);
    }
    for (name, size) in [
        ("size_t", 8),
        ("ptrdiff_t", 8),
        ("int8_t", 1),
        ("uint16_t", 2),
        ("int32_t", 4),
        ("uint64_t", 8),
    ] {
        assert(name, size, size);
    }
    compile("sizes", &source, &["-fsyntax-only"])
        .expect("every size is as in the Metal Shading Language specification");
}

#[test]
fn limits_traits_and_constants_hold() {
    compile("traits", include_str!("traits.cpp"), &["-fsyntax-only"])
        .expect("every assertion in traits.cpp holds");
}

#[test]
fn what_metal_refuses_does_not_compile() {
    // Each with its correct twin.
    for (name, wrong, right, message) in [
        (
            "twice",
            "void f(float4 v) { v.xx = float2(1); }",
            "void f(float4 v) { v.xy = float2(1); }",
            "xx",
        ),
        (
            "absent",
            "float f(float2 v) { return v.z; }",
            "float f(float2 v) { return v.y; }",
            "'z'",
        ),
        (
            "mixed",
            "float4 f(float4 a, int4 b) { return a + b; }",
            "float4 f(float4 a, int4 b) { return a + float4(b); }",
            "operand",
        ),
        (
            "implicit",
            "float4 f(int4 b) { return b; }",
            "float4 f(int4 b) { return float4(b); }",
            "conver",
        ),
        (
            "few",
            "float4 f() { return float4(1, 2, 3); }",
            "float4 f() { return float4(1, 2, 3, 4); }",
            "constructor",
        ),
        (
            "many",
            "float3 f(float2 a) { return float3(a, a); }",
            "float4 f(float2 a) { return float4(a, a); }",
            "no matching",
        ),
        (
            "remainder",
            "float2 f(float2 a) { return a % a; }",
            "int2 f(int2 a) { return a % a; }",
            "operand",
        ),
        (
            "bits",
            "uint f(half h) { return as_type<uint>(h); }",
            "ushort f(half h) { return as_type<ushort>(h); }",
            "same size",
        ),
        (
            "texture",
            "void f(texture2d<float> t) {}",
            "void f(float* t) {}",
            "not simulated",
        ),
        (
            "sampler",
            "void f(sampler s) {}",
            "void f(int s) {}",
            "not simulated",
        ),
        ("atomic", "atomic<half> a;", "atomic<float> a;", "atomic<T>"),
    ] {
        let messages = compile(&format!("wrong_{name}"), wrong, &[]).expect_err(wrong);
        assert!(messages.contains(message), "{wrong}: {messages}");
        compile(&format!("right_{name}"), right, &[]).expect(right);
    }
}

#[test]
fn literals_of_halves_are_halves() {
    let library = Library::new("literals", "extern \"C\" void values(const int*, float* out, int) {
        auto a = 1.5h; auto b = 3h; static_assert(is_same_v<decltype(a), half> && is_same_v<decltype(b), half>);
        out[0] = a; out[1] = b; out[2] = 1.1h; out[3] = HALF_MAX; out[4] = 1.0 / 3.0; }");
    let values: Vec<f32> = library.map("values", &[0; 5]);
    assert_eq!(
        values,
        [
            1.5,
            3.0,
            half::f16::from_f32(1.1).to_f32(),
            65504.0,
            1.0 / 3.0
        ]
    );
}
