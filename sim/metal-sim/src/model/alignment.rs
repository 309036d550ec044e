//! Where an argument may begin: Metal wants the offset of a binding to be a multiple of what its type is aligned to.

/// What the type of a buffer argument is aligned to, as far as its name says: `device const half4 *` is 8. `None` for
/// structures and for what a template leaves open.
pub(super) fn alignment(type_name: &str) -> Option<usize> {
    let words = type_name
        .split(|it: char| it.is_whitespace() || matches!(it, '*' | '&' | '(' | ')'))
        .filter(|word| !word.is_empty());
    let mut named = words.filter(|word| !QUALIFIERS.contains(word));
    match (named.next(), named.next()) {
        (Some(name), None) => of(name.rsplit("::").next().unwrap_or(name)),
        _ => None,
    }
}

const QUALIFIERS: [&str; 8] = [
    "device",
    "constant",
    "const",
    "volatile",
    "restrict",
    "__restrict",
    "coherent",
    "thread",
];

fn of(name: &str) -> Option<usize> {
    if let Some(size) = scalar(name) {
        return Some(size);
    }
    if let Some(element) = name.strip_prefix("packed_") {
        return scalar(element.strip_suffix(['2', '3', '4'])?);
    }
    let element = scalar(name.strip_suffix(['2', '3', '4'])?)?;
    // A vector of three takes the room of four.
    Some(element * if name.ends_with('2') { 2 } else { 4 })
}

fn scalar(name: &str) -> Option<usize> {
    Some(match name {
        "bool" | "char" | "uchar" | "int8_t" | "uint8_t" => 1,
        "half" | "bfloat" | "short" | "ushort" | "int16_t" | "uint16_t" => 2,
        "float" | "int" | "uint" | "int32_t" | "uint32_t" | "atomic_int" | "atomic_uint"
        | "atomic_float" => 4,
        "long" | "ulong" | "int64_t" | "uint64_t" | "size_t" => 8,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::alignment;

    #[test]
    fn the_name_of_a_type_says_its_alignment() {
        for (name, expected) in [
            ("device const float *", Some(4)),
            ("device float*", Some(4)),
            ("constant uint &", Some(4)),
            ("device const half4 *", Some(8)),
            ("const device metal::float3*", Some(16)),
            ("device packed_float3 *", Some(4)),
            ("device uchar4 *", Some(4)),
            ("device atomic_uint *", Some(4)),
            ("device const T *", None),
            ("device const block_q4_0 *", None),
            ("constant Shape &", None),
            ("constant unsigned int &", None),
        ] {
            assert_eq!(alignment(name), expected, "{name}");
        }
    }
}
