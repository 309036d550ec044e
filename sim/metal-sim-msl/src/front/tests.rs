//! Text in, facts out: each construct of the language that the rewriter knows, and what it refuses.

use super::Unit;
use crate::library::{Argument, ArgumentKind, Builtin, Function};

fn unit(text: &str) -> Unit {
    Unit::parse(text.to_string(), "a.metal").unwrap_or_else(|e| panic!("{e}"))
}

fn refusal(text: &str) -> String {
    Unit::parse(text.to_string(), "a.metal")
        .expect_err("it was refused")
        .to_string()
}

/// The rewritten source without the table, with single spaces.
fn rewritten(text: &str) -> String {
    let text = unit(text).emit_unused();
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    lines
        .flat_map(str::split_whitespace)
        .collect::<Vec<_>>()
        .join(" ")
}

fn function(text: &str, name: &str) -> Function {
    unit(text)
        .functions()
        .find(|f| f.name == name)
        .unwrap_or_else(|| panic!("kernel {name}"))
        .clone()
}

fn kinds(arguments: &[Argument]) -> Vec<ArgumentKind> {
    arguments.iter().map(|a| a.kind).collect()
}

#[test]
fn a_kernel_has_its_arguments() {
    let text = "kernel void f(device const float * x [[buffer(3)]], device float *y, constant uint &n,\n\
                threadgroup half* shared [[threadgroup(1)]], threadgroup float (&more)[4],\n\
                ushort2 at [[thread_position_in_grid]], uint [[thread_index_in_simdgroup]]) {}";
    let f = function(text, "f");
    assert_eq!(
        kinds(&f.arguments),
        [
            ArgumentKind::Buffer(3),
            ArgumentKind::Buffer(0),
            ArgumentKind::Buffer(1),
            ArgumentKind::Threadgroup(1),
            ArgumentKind::Threadgroup(0),
            ArgumentKind::Builtin(Builtin::ThreadPositionInGrid),
            ArgumentKind::Builtin(Builtin::ThreadIndexInSimdgroup),
        ]
    );
    let described: Vec<_> = f
        .arguments
        .iter()
        .map(|a| (a.name.as_str(), a.type_name.as_str(), a.writable, a.line))
        .collect();
    assert_eq!(described[0], ("x", "device const float *", false, 1));
    assert_eq!(described[1], ("y", "device float *", true, 1));
    assert_eq!(described[2], ("n", "constant uint &", false, 1));
    assert_eq!(described[5], ("at", "ushort2", false, 3));
    assert_eq!(described[6], ("", "uint", false, 3));
}

#[test]
fn every_way_to_write_a_kernel_is_one() {
    let text = "[[kernel]] void a(device int* x) {}\n\
                [[host_name(\"b\" \"2\")]] kernel void b(device int* x) {}\n\
                [[kernel, max_total_threads_per_threadgroup(64)]] void c(device int* x) {}\n\
                void not_one(device int* x [[buffer(0)]]) {}\n\
                namespace n { kernel void d(device int* x) {} }";
    let names: Vec<_> = unit(text)
        .functions()
        .map(|f| (f.name.clone(), f.line))
        .collect();
    let names: Vec<_> = names.iter().map(|(n, l)| (n.as_str(), *l)).collect();
    assert_eq!(names, [("a", 1), ("b2", 2), ("c", 3), ("d", 5)]);
    let all = unit(text).emit(|_| true);
    assert!(all.contains("::n::msl_row_3::row"), "{all}");
    assert!(
        all.contains("static constexpr unsigned msl_max_threads_c_2 = 64;"),
        "{all}"
    );
    assert!(
        rewritten(text).contains("inline void not_one( int* x )"),
        "{}",
        rewritten(text)
    );
}

#[test]
fn explicit_instantiations_are_kernels() {
    let text = "template <typename T, int N> [[kernel, max_total_threads_per_threadgroup(N * 32)]] \
                void f(device T* x, constant int& n) {}\n\
                typedef decltype(f<int, 1>) f_t;\n\
                template [[host_name(\"f_\" \"float\")]] [[kernel]] decltype(f<float, 2>) f<float, 2>;\n\
                template [[host_name(\"f_half\")]] kernel void f<half, 4>(device half* x, constant int& n);\n\
                template [[host_name(\"f_int\")]] kernel f_t f<int, 1>;\n";
    let unit = unit(text);
    let names: Vec<_> = unit.functions().map(|f| f.name.clone()).collect();
    assert_eq!(names, ["f_float", "f_half", "f_int"]);
    for f in unit.functions() {
        assert_eq!(
            kinds(&f.arguments),
            [ArgumentKind::Buffer(0), ArgumentKind::Buffer(1)]
        );
        assert_eq!(f.arguments[0].type_name, "device T*");
    }
    let one = unit.emit(|name| name == "f_half");
    assert!(
        one.contains("(&f<half, 4>)(msl_at::get<0>::memory(buffers[0])"),
        "{one}"
    );
    assert!(one.contains("msl_max_threads_f_0<half, 4>"), "{one}");
    assert!(
        !one.contains("f<float, 2>"),
        "only what is asked for: {one}"
    );
}

#[test]
fn an_instantiation_may_leave_its_arguments_to_be_deduced() {
    let text = "template <typename T, int N> [[kernel]] void f(device const P<T, N>* x) {}\n\
                template [[host_name(\"f_4\")]] [[kernel]] void f(device const P<float, 4>* x [[buffer(0)]]);";
    let all = unit(text).emit(|_| true);
    assert!(all.contains("static void msl_like_0("), "{all}");
    assert!(
        all.contains("(static_cast<decltype(&msl_like_0)>(&f))(msl_at::get<0>"),
        "{all}"
    );
    assert_eq!(
        kinds(&function(text, "f_4").arguments),
        [ArgumentKind::Buffer(0)]
    );
}

#[test]
fn overloaded_templates_are_told_apart_by_how_many_arguments_they_take() {
    let text = "template <typename T, int N> kernel void f(device T* x) {}\n\
                template <typename T, typename U, int N, int M = 2> kernel void f(device T* x, device U* y) {}\n\
                template [[host_name(\"a\")]] [[kernel]] decltype(f<int, 2>) f<int, 2>;\n\
                template [[host_name(\"b\")]] [[kernel]] decltype(f<int, vec<int, 2>, 3>) f<int, vec<int, 2>, 3>;\n";
    assert_eq!(function(text, "a").arguments.len(), 1);
    assert_eq!(function(text, "b").arguments.len(), 2);
    let error = refusal(&text.replace("typename U, int N, int M = 2", "typename U"));
    assert!(
        error.contains("several kernel templates `f` could be meant"),
        "{error}"
    );
}

#[test]
fn a_table_of_one_kernel_leaves_prototypes_of_the_others() {
    let text =
        "kernel void f(device int* x) { *x = 1; }\nkernel void g(device int* x) { *x = 2; }\n";
    let one = unit(text).emit(|name| name == "g");
    assert!(one.contains("static void f(       int* x) ;"), "{one}");
    assert!(!one.contains("*x = 1") && one.contains("*x = 2"), "{one}");
    let called = unit(&text.replace("*x = 2", "f(x)")).emit(|name| name == "g");
    assert!(
        called.contains("*x = 1"),
        "one that is called keeps its body: {called}"
    );
}

#[test]
fn threadgroup_variables_become_references() {
    let text = "kernel void f(device int* x) {\n\
                  threadgroup float a[4][N * 2], b;\n\
                  threadgroup atomic_uint c;\n\
                  alignas(16) threadgroup vec<T, 2> d[8];\n\
                  if (y) { threadgroup T* p = (threadgroup T*)a; threadgroup const auto & q = *p; }\n\
                }";
    let out = rewritten(text);
    assert!(
        out.contains("typedef float msl_type_a[4][N * 2], msl_type_b;"),
        "{out}"
    );
    assert!(
        out.contains("{\"a\", sizeof(msl_type_a), alignof(msl_type_a), 2}"),
        "{out}"
    );
    assert!(
        out.contains(
            "msl_type_b& b = *static_cast<msl_type_b*>(::msl_detail::threadgroup_variable("
        ),
        "{out}"
    );
    assert!(out.contains("typedef atomic_uint msl_type_c;"), "{out}");
    assert!(out.contains("typedef vec<T, 2> msl_type_d[8];"), "{out}");
    assert!(out.contains("(16) > alignof(msl_type_d) ? (16)"), "{out}");
    assert!(
        out.contains("{ T* p = ( T*)a; const auto & q = *p; }"),
        "{out}"
    );
    assert!(
        !out.split(|c: char| !c.is_alphanumeric() && c != '_')
            .any(|w| w == "threadgroup"),
        "{out}"
    );
}

#[test]
fn threadgroup_variables_in_templates_and_cases_are_found() {
    let text = "template <typename T> void g(int n) { switch (n) { case 2: { threadgroup T s[2]; use(s); } \
                default: threadgroup T t[1]; } for (int i = 0; i < n; i++) { threadgroup T u; } }";
    let out = rewritten(text);
    assert_eq!(
        out.matches("::msl_detail::threadgroup_variable").count(),
        3,
        "{out}"
    );
}

#[test]
fn a_threadgroup_variable_that_cannot_be_placed_is_an_error() {
    let cases = [
        (
            "\nthreadgroup float a[4];",
            "a.metal:2:1: error: `threadgroup` that is neither of a pointer",
        ),
        (
            "void f() {\n threadgroup float a = 1; }",
            "a.metal:2:22: error: a threadgroup variable with a value",
        ),
        (
            "struct S {\n threadgroup float a; };",
            "a.metal:2:2: error: `threadgroup` that is neither",
        ),
        (
            "void f() {\n threadgroup float a, *b; }",
            "a.metal:2:23: error: a threadgroup variable beside a pointer",
        ),
        (
            "void f(\n threadgroup float a) {}",
            "a.metal:2:2: error: `threadgroup` that is neither",
        ),
        (
            "void f() {\n device float a; }",
            "a.metal:2:2: error: `device` that is neither",
        ),
    ];
    for (text, begins) in cases {
        let error = refusal(text);
        assert!(error.starts_with(begins), "{text}: {error}");
    }
    // Zeros are dropped: Metal does not write them either, and the detector tells who relied on them.
    let out = rewritten("void f() { threadgroup float a[4] = {0}; threadgroup int b[2]{}; }");
    assert!(
        out.contains("msl_type_a[4];") && out.contains("msl_type_b[2];"),
        "{out}"
    );
}

#[test]
fn address_spaces_are_erased() {
    let text = "constant float PI = 3; static constant constexpr const int N = 4; \
                template <typename T> device T* f(constant T *a, const constant T& b, thread float& c, \
                threadgroup T d[N], T device * const e) { return reinterpret_cast<device T*>((constant T*)a); }";
    assert_eq!(
        rewritten(text),
        "const float PI = 3; static const constexpr const int N = 4; \
         template <typename T> inline T* f(const T *a, const T& b, float& c, \
         T d[N], T * const e) { return reinterpret_cast< T*>((const T*)a); }"
    );
}

#[test]
fn casts_between_small_floats_use_the_preludes() {
    let out = rewritten(
        "void f() { bfloat x = static_cast<bfloat>(h); auto p = static_cast<device float*>(q); }",
    );
    assert_eq!(
        out,
        "inline void f() { bfloat x = ::msl_cast<bfloat>(h); auto p = static_cast< float*>(q); }"
    );
}

#[test]
fn overloads_of_address_spaces_are_one() {
    let text = "struct S { int v; S() thread = default; S() threadgroup = default; S() constant = default; \
                int get() const thread { return v; } int get() const device { return v; } };\n\
                template <typename T> T load(device const T* a) { return *a; }\n\
                template <typename T> T load(const threadgroup T* b) { return *b; }\n";
    let error = refusal(text);
    assert!(
        error.contains("overloads that differ only in address space"),
        "the names are part of the body: {error}"
    );
    let out = rewritten(&text.replace("* b", "* a").replace("*b", "*a"));
    assert_eq!(out.matches("S()").count(), 1, "{out}");
    assert_eq!(out.matches("get()").count(), 1, "{out}");
    assert_eq!(out.matches("load(").count(), 1, "{out}");
}

#[test]
fn specialisations_by_address_space_are_one() {
    let text = "template <typename T> struct E; template <typename T> struct E<device T*> { typedef T type; };\n\
                template <typename T> struct E<threadgroup T*> { typedef T type; };";
    assert_eq!(
        rewritten(text).matches("struct E< T*>").count(),
        1,
        "{}",
        rewritten(text)
    );
    let error = refusal(&text.replace("typedef T type; };\n", "typedef float type; };\n"));
    assert!(
        error.starts_with("a.metal:2:23: error: overloads that differ only in address space"),
        "{error}"
    );
}

#[test]
fn overloads_that_differ_in_const_stay() {
    let text = "int f(device int* a) { return 1; } int f(device const int* a) { return 2; } \
                int f(constant int* a) { return 2; }";
    let out = rewritten(text);
    assert_eq!(
        out.matches("int f(").count(),
        2,
        "constant and const are the same now: {out}"
    );
}

#[test]
fn function_constants_become_variables() {
    let text = "constant bool has_a [[function_constant(10)]];\n\
                namespace n { constant uint2 size [[function_constant(3)]]; }\n\
                constant bool both = has_a && n::size.x > 1;\n\
                constant bool given = is_function_constant_defined(has_a);\n\
                constant int other = 4;\n\
                kernel void f(device int* x [[function_constant(both)]], device int* y [[buffer(0)]]) {}";
    let unit = unit(text);
    let constants: Vec<_> = unit
        .constants()
        .map(|c| (c.name.as_str(), c.type_name.as_str(), c.index))
        .collect();
    assert_eq!(
        constants,
        [
            ("has_a", "bool", Some(10)),
            ("size", "uint2", Some(3)),
            ("both", "bool", None),
            ("given", "bool", None)
        ]
    );
    let f = unit.functions().next().unwrap();
    assert_eq!(f.arguments[0].constant.as_deref(), Some("both"));
    assert_eq!(
        kinds(&f.arguments),
        [ArgumentKind::Buffer(1), ArgumentKind::Buffer(0)]
    );
    let out = rewritten(text);
    assert!(
        out.contains("static bool has_a; static unsigned char msl_defined_has_a;"),
        "{out}"
    );
    assert!(
        out.contains(
            "msl_derive_both() { bool msl_value = has_a && n::size.x > 1; both = msl_value; }"
        ),
        "{out}"
    );
    assert!(
        out.contains("bool msl_value =(msl_defined_has_a); given = msl_value; }"),
        "{out}"
    );
    assert!(out.contains("const int other = 4;"), "{out}");
    let all = unit.emit(|_| true);
    assert!(
        all.contains(
            "{\"size\", \"uint2\", 3u, &::n::size, sizeof(::n::size), &::n::msl_defined_size}"
        ),
        "{all}"
    );
    assert!(
        all.contains("void msl_derive_1(void) { ::msl_derive_both(); ::msl_derive_given(); }"),
        "{all}"
    );
}

#[test]
fn a_kernel_knows_the_constants_that_it_needs() {
    let text = "constant int a [[function_constant(0)]]; constant int b [[function_constant(1)]];\n\
                constant int c [[function_constant(2)]]; constant int d [[function_constant(3)]];\n\
                constant bool both = a > 1 && b > 1;\n\
                constant int e = is_function_constant_defined(d) ? d : 7;\n\
                kernel void f(device int* x [[function_constant(both)]]) { x[0] = d + e + x->c; }\n\
                kernel void g(device int* x) { x[0] = c; }\n\
                template <typename T> kernel void h(device T* x) { x[0] = a; }\n\
                template [[host_name(\"h\")]] kernel void h<int>(device int* x);";
    assert_eq!(function(text, "f").constants, ["a", "b"]);
    assert_eq!(function(text, "g").constants, ["c"]);
    assert_eq!(function(text, "h").constants, ["a"]);
}

#[test]
fn what_cannot_follow_a_function_constant_is_an_error() {
    let cases = [
        "\ntemplate <int N> constant bool y = x && N;",
        "\nstruct S { static constant bool y = x; };",
        "\nconstant bool y[2] = {x, x};",
        "\nconstant bool y(x);",
        "\nvoid f() { bool y = is_function_constant_defined(z); }",
        "\nconstant bool y = x; void f() { bool z = is_function_constant_defined(y); }",
        "\nkernel void f(device int* a [[function_constant(z)]]) {}",
    ];
    for text in cases {
        let error = refusal(&format!("constant bool x [[function_constant(0)]];{text}"));
        assert!(
            error.starts_with("a.metal:2:") && error.contains("error"),
            "{text}: {error}"
        );
    }
}

#[test]
fn what_is_not_understood_is_an_error_with_its_line() {
    let cases = [
        ("\nvertex float4 f() { return 0; }", "qualifier `vertex`"),
        (
            "\nfragment float4 f() { return 0; }",
            "qualifier `fragment`",
        ),
        (
            "\nkernel void f(texture2d<float> t [[texture(0)]]) {}",
            "attribute [[texture]]",
        ),
        (
            "\nkernel void f(float4 p [[stage_in]]) {}",
            "attribute [[stage_in]]",
        ),
        (
            "\nkernel void f(float x) {}",
            "has neither an address space nor an attribute",
        ),
        (
            "\nkernel void f(device int* x [[buffer(0)]], device int* y [[buffer(0)]]) {}",
            "has the index of another",
        ),
        (
            "\nkernel void f(device int* x [[buffer(A)]]) {}",
            "index `A`",
        ),
        ("\nkernel int f(device int* x) {}", "does not return void"),
        (
            "\nkernel void f(device int* x) {} [[host_name(\"f\")]] kernel void g(device int* x) {}",
            "two kernels",
        ),
        (
            "\ntemplate [[host_name(\"x\")]] [[kernel]] decltype(g<int>) g<int>;",
            "no kernel template `g`",
        ),
        ("\nint x [[kernel]];", "[[kernel]] where it means nothing"),
        (
            "\nvoid f() { coherent(device) device int* x; }",
            "qualifier `coherent`",
        ),
    ];
    for (text, what) in cases {
        let error = refusal(text);
        assert!(
            error.starts_with("a.metal:2:") && error.contains(what),
            "{text}: {error}"
        );
    }
}

#[test]
fn pragmas_are_kept_or_known() {
    let out =
        unit("void f() {\n#pragma clang loop unroll(full)\nfor (;;) {}\n#pragma pack(4)\n}\n")
            .emit_unused();
    assert!(
        !out.contains("unroll") && out.contains("#pragma pack(4)\n"),
        "{out}"
    );
}

#[test]
fn a_member_named_like_a_parameter_list_is_no_kernel() {
    let text = "struct op { template <typename T> T operator()(T a, T b) const { return a < b ? a : b; } \
                bool operator<(op o) { return true; } operator int() const { return 1; } };";
    assert_eq!(unit(text).functions().count(), 0);
    assert_eq!(
        rewritten(text),
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    );
}
