//! What a compiled library says of itself: for every kernel that is compiled a function that runs one GPU thread and a
//! row of `msl_library`, written where the kernel is declared, so that names mean what they mean there. `prelude/abi.h`
//! is the other side; `prelude/table.h` has the C++ that the rows use.

use std::fmt::Write;

use super::{
    Unit,
    constants::FunctionConstant,
    edits::Edits,
    kernels::{Definition, Kernel},
    lexer::Source,
    outline::{Item, ItemKind, Scope},
};
use crate::library::{ArgumentKind, Builtin};

/// Before a kernel with `max_total_threads_per_threadgroup`: a variable with its value, for templates one for each
/// instantiation.
pub(crate) fn max_threads(
    source: &Source,
    item: &Item,
    definition: &Definition,
    edits: &mut Edits,
) {
    let Some(value) = &definition.max_threads else {
        return;
    };
    let template = item.template.as_ref().map_or_else(String::new, |t| {
        format!("template <{}> ", source.join(t.clone()))
    });
    let value = source.join(value.clone());
    let (name, number) = (&definition.name, definition.item);
    let text =
        format!("{template}static constexpr unsigned msl_max_threads_{name}_{number} = {value};");
    edits.before(item.tokens.start, &text);
}

/// The entry of a kernel and its row, where its item stands.
pub(crate) fn entry(unit: &Unit, number: usize, edits: &mut Edits) {
    let kernel = &unit.kernels[number];
    let text = text(kernel, number, &unit.constants);
    let item = &unit.outline.items[kernel.item];
    let last = item.tokens.end - 1;
    match item.kind {
        ItemKind::Function { .. } => edits.replace(last, format!("}} {text}")),
        _ if kernel.like.is_some() => edits.replace(last, format!("; {text}")),
        _ => edits.before(item.tokens.start, &text),
    }
}

fn text(kernel: &Kernel, number: usize, constants: &[FunctionConstant]) -> String {
    let Kernel {
        function,
        pointer,
        max_threads,
        ..
    } = kernel;
    let mut values = Vec::new();
    let mut rows = Vec::new();
    for (at, argument) in function.arguments.iter().enumerate() {
        let (kind, index, value) = match argument.kind {
            ArgumentKind::Buffer(index) => {
                ("MSL_BUFFER", index, format!("memory(buffers[{index}])"))
            }
            ArgumentKind::Threadgroup(index) => (
                "MSL_THREADGROUP",
                index,
                format!("memory(msl_rt->threadgroup_argument({index}))"),
            ),
            ArgumentKind::Builtin(builtin) => {
                ("MSL_BUILTIN", 0, format!("value({})", field(builtin)))
            }
        };
        values.push(format!("msl_at::get<{at}>::{value}"));
        let constant = argument.constant.as_ref().map_or_else(
            || "~0u".to_string(),
            |name| {
                let own = name.rsplit("::").next().unwrap_or(name).trim();
                constants
                    .iter()
                    .position(|c| c.constant.name == own)
                    .map_or("~0u".to_string(), |i| format!("{i}u"))
            },
        );
        rows.push(format!(
            "{{::{kind}, {index}u, {}, {}, msl_at::get<{at}>::size, {}u, {constant}, {}u}}",
            quoted(&argument.name),
            quoted(&argument.type_name),
            u32::from(argument.writable),
            argument.line
        ));
    }
    let count = rows.len();
    // An array has at least one element.
    if rows.is_empty() {
        rows.push("{}".to_string());
    }
    let name = quoted(&function.name);
    format!(
        "__attribute__((no_sanitize(\"thread\"))) static void msl_entry_{number}(void* const* buffers, \
         const ::msl_thread* self) {{ using msl_at = ::msl_table::parameters<decltype({pointer})>; \
         ({pointer})({values}); }} \
         namespace msl_row_{number} {{ using msl_at = ::msl_table::parameters<decltype({pointer})>; \
         static constexpr ::msl_argument arguments[] = {{{rows}}}; \
         static constexpr ::msl_kernel row = {{{name}, msl_entry_{number}, arguments, {count}, {max_threads}, {line}}}; }}",
        values = values.join(", "),
        rows = rows.join(", "),
        line = function.line,
    )
}

/// The table itself, after everything.
pub(crate) fn table(unit: &Unit, numbers: &[usize]) -> String {
    let path = |scope: usize| -> String {
        let Scope { path, .. } = &unit.outline.scopes[scope];
        path.iter()
            .fold(String::from("::"), |all, part| all + part + "::")
    };
    let mut out = String::from("\n#line 1 \"msl_table\"\n");
    let mut derived = String::new();
    let mut rows = String::new();
    for constant in &unit.constants {
        let path = path(constant.scope);
        let c = &constant.constant;
        let (name, type_name) = (quoted(&c.name), quoted(&c.type_name));
        let index = c.index.map_or("~0u".to_string(), |i| format!("{i}u"));
        let own = &c.name;
        let value = format!("&{path}{own}, sizeof({path}{own}), &{path}msl_defined_{own}");
        writeln!(rows, "  {{{name}, {type_name}, {index}, {value}}},")
            .expect("a String takes everything");
        if c.index.is_none() {
            write!(derived, " {path}msl_derive_{own}();").expect("a String takes everything");
        }
    }
    let constants = if rows.is_empty() {
        "static const msl_constant* const msl_constants = nullptr;".to_string()
    } else {
        format!("static const msl_constant msl_constants[] = {{\n{rows}}};")
    };
    let kernels: Vec<String> = numbers
        .iter()
        .map(|&n| {
            format!(
                "{}msl_row_{n}::row",
                path(unit.outline.items[unit.kernels[n].item].scope)
            )
        })
        .collect();
    write!(
        out,
        "static const msl_kernel msl_kernels[] = {{{}}};\n{constants}\n\
         static const msl_library msl_the_library = {{MSL_ABI, msl_kernels, {}, msl_constants, {}}};\n\
         MSL_EXPORT const msl_library* msl_library_1(void) {{ return &msl_the_library; }}\n\
         MSL_EXPORT void msl_derive_1(void) {{{derived} }}\n\
         MSL_EXPORT const msl_variable* msl_variables_1(uint32_t* count) {{ return msl_table::variables(count); }}\n",
        kernels.join(", "),
        kernels.len(),
        unit.constants.len(),
    )
    .expect("a String takes everything");
    out
}

/// Where `msl_thread` has it.
fn field(builtin: Builtin) -> &'static str {
    match builtin {
        Builtin::ThreadPositionInGrid => "self->thread_position_in_grid",
        Builtin::ThreadPositionInThreadgroup => "self->thread_position_in_threadgroup",
        Builtin::ThreadgroupPositionInGrid => "self->threadgroup_position_in_grid",
        Builtin::ThreadsPerThreadgroup => "self->threads_per_threadgroup",
        Builtin::DispatchThreadsPerThreadgroup => "self->dispatch_threads_per_threadgroup",
        Builtin::ThreadgroupsPerGrid => "self->threadgroups_per_grid",
        Builtin::ThreadsPerGrid => "self->threads_per_grid",
        Builtin::ThreadIndexInThreadgroup => "self->thread_index_in_threadgroup",
        Builtin::ThreadIndexInSimdgroup => "self->thread_index_in_simdgroup",
        Builtin::SimdgroupIndexInThreadgroup => "self->simdgroup_index_in_threadgroup",
        Builtin::SimdgroupsPerThreadgroup => "self->simdgroups_per_threadgroup",
        Builtin::ThreadsPerSimdgroup => "self->threads_per_simdgroup",
        // A quadgroup is four lanes of a simdgroup.
        Builtin::ThreadIndexInQuadgroup => "self->thread_index_in_threadgroup % 4",
        Builtin::QuadgroupIndexInThreadgroup => "self->thread_index_in_threadgroup / 4",
        Builtin::QuadgroupsPerThreadgroup => {
            "(self->threads_per_threadgroup[0] * self->threads_per_threadgroup[1] * self->threads_per_threadgroup[2] + 3) / 4"
        }
    }
}

/// A C string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}
