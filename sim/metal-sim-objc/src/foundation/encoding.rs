//! How many bytes a value of a type encoding has, which is all that `NSValue` needs to know
//! about it.

use crate::fault::fault;

/// Size and alignment of a value of the type that `encoding` names.
pub(crate) fn layout(encoding: &str) -> (usize, usize) {
    let mut rest = encoding.as_bytes();
    let layout = next(&mut rest);
    match (layout, rest.is_empty()) {
        (Some(layout), true) => layout,
        _ => fault("value encoding", format!("“{encoding}” is not simulated")),
    }
}

/// Reads one type off the front of `rest`.
fn next(rest: &mut &[u8]) -> Option<(usize, usize)> {
    let (&first, mut after) = rest.split_first()?;
    let layout = match first {
        b'c' | b'C' | b'B' => (1, 1),
        b's' | b'S' => (2, 2),
        b'i' | b'I' | b'l' | b'L' | b'f' => (4, 4),
        b'q' | b'Q' | b'd' => (8, 8),
        b't' | b'T' | b'D' => (16, 16),
        b'*' | b'@' | b'#' | b':' => {
            after = after.strip_prefix(b"?").unwrap_or(after);
            (8, 8)
        }
        b'^' => {
            // What it points to matters only for where it ends.
            match after.split_first() {
                Some((b'?' | b'v', behind)) => after = behind,
                Some((b'{' | b'(', _)) => after = &after[closing(after)?..],
                _ => {
                    next(&mut after)?;
                }
            }
            (8, 8)
        }
        b'{' | b'(' => {
            let end = closing(rest)?;
            let inside = &rest[1..end - 1];
            after = &rest[end..];
            let fields = inside.iter().position(|byte| *byte == b'=')?;
            members(&inside[fields + 1..], first == b'{')?
        }
        b'[' => {
            let digits = after
                .iter()
                .take_while(|byte| byte.is_ascii_digit())
                .count();
            let count: usize = str::from_utf8(&after[..digits]).ok()?.parse().ok()?;
            after = &after[digits..];
            let (size, align) = next(&mut after)?;
            after = after.strip_prefix(b"]")?;
            (size * count, align)
        }
        b'r' | b'n' | b'N' | b'o' | b'O' | b'V' | b'A' => next(&mut after)?,
        _ => return None,
    };
    *rest = after;
    Some(layout)
}

/// The layout of a structure's members one after the other, or of a union's.
fn members(mut fields: &[u8], in_order: bool) -> Option<(usize, usize)> {
    let (mut size, mut align) = (0_usize, 1);
    while !fields.is_empty() {
        let (field, field_align) = next(&mut fields)?;
        let start = if in_order {
            size.next_multiple_of(field_align)
        } else {
            0
        };
        size = size.max(start + field);
        align = align.max(field_align);
    }
    Some((size.next_multiple_of(align), align))
}

/// How long the bracketed text at the front is.
fn closing(text: &[u8]) -> Option<usize> {
    let mut depth = 0;
    let end = text.iter().position(|byte| {
        match byte {
            b'{' | b'(' | b'[' => depth += 1,
            b'}' | b')' | b']' => depth -= 1,
            _ => {}
        }
        depth == 0
    })?;
    Some(end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use objc2::encode::Encode;
    use objc2_foundation::NSRange;

    #[track_caller]
    fn agrees<T: Encode>() {
        let encoding = T::ENCODING.to_string();
        assert_eq!(
            layout(&encoding),
            (size_of::<T>(), align_of::<T>()),
            "{encoding}"
        );
    }

    #[test]
    fn layouts_are_those_of_the_compiler() {
        agrees::<u8>();
        agrees::<i16>();
        agrees::<u32>();
        agrees::<isize>();
        agrees::<f64>();
        agrees::<NSRange>();
        agrees::<*const u8>();
        agrees::<*const NSRange>();
        agrees::<*const *const std::ffi::c_void>();
        assert_eq!(layout("{a=c{b=sI}(u=cq)[3s]}"), (32, 8));
        assert_eq!(layout("^{opaque}"), (8, 8));
        assert_eq!(layout("@?"), (8, 8));
    }
}
