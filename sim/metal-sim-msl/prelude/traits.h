// <metal_type_traits>, <metal_limits> and as_type.
#pragma once

namespace metal {

template <class T, T v>
struct integral_constant {
  static constexpr T value = v;
  typedef T value_type;
  typedef integral_constant type;
  constexpr operator T() const { return v; }
  constexpr T operator()() const { return v; }
};
template <bool B>
using bool_constant = integral_constant<bool, B>;
typedef bool_constant<true> true_type;
typedef bool_constant<false> false_type;

template <bool, class T = void>
struct enable_if {};
template <class T>
struct enable_if<true, T> {
  typedef T type;
};
template <bool B, class T = void>
using enable_if_t = typename enable_if<B, T>::type;

template <bool, class T, class>
struct conditional {
  typedef T type;
};
template <class T, class F>
struct conditional<false, T, F> {
  typedef F type;
};
template <bool B, class T, class F>
using conditional_t = typename conditional<B, T, F>::type;

template <class T>
T&& declval() noexcept;
template <class T>
struct type_identity {
  typedef T type;
};
template <class T>
using type_identity_t = typename type_identity<T>::type;

// A transformation of the compiler's own, under its standard names.
#define MSL_TRANSFORM(name, result) \
  template <class T>                \
  struct name {                     \
    typedef result type;            \
  };                                \
  template <class T>                \
  using name##_t = result;
MSL_TRANSFORM(remove_const, __remove_const(T))
MSL_TRANSFORM(remove_volatile, __remove_volatile(T))
MSL_TRANSFORM(remove_cv, __remove_cv(T))
MSL_TRANSFORM(remove_reference, __remove_reference_t(T))
MSL_TRANSFORM(remove_cvref, __remove_cvref(T))
MSL_TRANSFORM(remove_pointer, __remove_pointer(T))
MSL_TRANSFORM(remove_extent, __remove_extent(T))
MSL_TRANSFORM(remove_all_extents, __remove_all_extents(T))
MSL_TRANSFORM(add_const, const T)
MSL_TRANSFORM(add_volatile, volatile T)
MSL_TRANSFORM(add_cv, const volatile T)
MSL_TRANSFORM(add_pointer, __add_pointer(T))
MSL_TRANSFORM(add_lvalue_reference, __add_lvalue_reference(T))
MSL_TRANSFORM(add_rvalue_reference, __add_rvalue_reference(T))
// Address spaces are erased already.
MSL_TRANSFORM(remove_addrspace, T)
MSL_TRANSFORM(decay, __decay(T))
MSL_TRANSFORM(make_signed, __make_signed(T))
MSL_TRANSFORM(make_unsigned, __make_unsigned(T))
MSL_TRANSFORM(underlying_type, __underlying_type(T))
#undef MSL_TRANSFORM

// A question the compiler answers.
#define MSL_QUESTION(name, answer)        \
  template <class T>                      \
  struct name : bool_constant<answer> {}; \
  template <class T>                      \
  constexpr bool name##_v = answer;
MSL_QUESTION(is_integral, __is_integral(T))
MSL_QUESTION(is_unsigned, __is_unsigned(T))
MSL_QUESTION(is_const, __is_const(T))
MSL_QUESTION(is_volatile, __is_volatile(T))
MSL_QUESTION(is_void, __is_void(T))
MSL_QUESTION(is_array, __is_array(T))
MSL_QUESTION(is_pointer, __is_pointer(T))
MSL_QUESTION(is_reference, __is_reference(T))
MSL_QUESTION(is_lvalue_reference, __is_lvalue_reference(T))
MSL_QUESTION(is_rvalue_reference, __is_rvalue_reference(T))
MSL_QUESTION(is_function, __is_function(T))
MSL_QUESTION(is_class, __is_class(T))
MSL_QUESTION(is_union, __is_union(T))
MSL_QUESTION(is_enum, __is_enum(T))
MSL_QUESTION(is_final, __is_final(T))
MSL_QUESTION(is_polymorphic, __is_polymorphic(T))
MSL_QUESTION(is_abstract, __is_abstract(T))
MSL_QUESTION(is_trivially_copyable, __is_trivially_copyable(T))
MSL_QUESTION(is_standard_layout, __is_standard_layout(T))
MSL_QUESTION(is_trivial, __is_trivial(T))
MSL_QUESTION(is_pod, __is_pod(T))

template <class A, class B>
constexpr bool is_same_v = __is_same(A, B);
template <class A, class B>
struct is_same : bool_constant<__is_same(A, B)> {};
template <class A, class B>
constexpr bool is_convertible_v = __is_convertible_to(A, B);
template <class A, class B>
struct is_convertible : bool_constant<__is_convertible_to(A, B)> {};
template <class A, class B>
constexpr bool is_base_of_v = __is_base_of(A, B);
template <class A, class B>
struct is_base_of : bool_constant<__is_base_of(A, B)> {};
template <class T, class... A>
constexpr bool is_constructible_v = __is_constructible(T, A...);
template <class T, class... A>
struct is_constructible : bool_constant<__is_constructible(T, A...)> {};
template <class A, class B>
constexpr bool is_assignable_v = __is_assignable(A, B);
template <class A, class B>
struct is_assignable : bool_constant<__is_assignable(A, B)> {};

MSL_QUESTION(is_floating_point, (is_same_v<__remove_cv(T), float> || is_same_v<__remove_cv(T), half> ||
                                 is_same_v<__remove_cv(T), bfloat>))
MSL_QUESTION(is_arithmetic, (is_integral_v<T> || is_floating_point_v<T>))
MSL_QUESTION(is_scalar, (is_arithmetic_v<T> || __is_enum(T) || __is_pointer(T)))
MSL_QUESTION(is_fundamental, (is_arithmetic_v<T> || __is_void(T)))
MSL_QUESTION(is_object, (__is_object(T)))
MSL_QUESTION(is_compound, (!is_fundamental_v<T>))
MSL_QUESTION(is_signed, (is_arithmetic_v<T> && !__is_unsigned(T)))
#undef MSL_QUESTION

template <class...>
struct conjunction : true_type {};
template <class A, class... B>
struct conjunction<A, B...> : conditional_t<bool(A::value), conjunction<B...>, A> {};
template <class...>
struct disjunction : false_type {};
template <class A, class... B>
struct disjunction<A, B...> : conditional_t<bool(A::value), A, disjunction<B...>> {};
template <class A>
struct negation : bool_constant<!bool(A::value)> {};
template <class... A>
constexpr bool conjunction_v = conjunction<A...>::value;
template <class... A>
constexpr bool disjunction_v = disjunction<A...>::value;
template <class A>
constexpr bool negation_v = !bool(A::value);

// The names that Apple's headers use inside.
template <class... A>
using _conjunction = conjunction<A...>;
template <class... A>
using _disjunction = disjunction<A...>;
template <class A>
using _negation = negation<A>;

template <class... T>
struct common_type;
template <class T>
struct common_type<T> {
  typedef __decay(T) type;
};
template <class A, class B, class... C>
struct common_type<A, B, C...> : common_type<__decay(decltype(false ? declval<A>() : declval<B>())), C...> {};
template <class... T>
using common_type_t = typename common_type<T...>::type;

template <class T>
struct rank : integral_constant<size_t, __array_rank(T)> {};
template <class T, unsigned I = 0>
struct extent : integral_constant<size_t, __array_extent(T, I)> {};
template <class T>
struct alignment_of : integral_constant<size_t, alignof(T)> {};

template <class T>
constexpr remove_reference_t<T>&& move(T&& value) noexcept {
  return static_cast<remove_reference_t<T>&&>(value);
}
template <class T>
constexpr void swap(T& a, T& b) {
  T was = a;
  a = b;
  b = was;
}

// Limits of integers; those of floating point follow. Sources specialise this for types of their own.
template <class T>
struct _numeric_limits_impl {
  static constexpr bool is_specialized = is_integral_v<T>;
  static constexpr bool is_signed = !__is_unsigned(T), is_integer = true, is_exact = true;
  static constexpr bool has_infinity = false, has_quiet_NaN = false, is_bounded = true;
  static constexpr int radix = 2, digits = 8 * sizeof(T) - is_signed, digits10 = digits * 643L / 2136;
  static constexpr T max() { return is_signed ? T((1ul << (8 * sizeof(T) - 1)) - 1) : T(~0ul); }
  static constexpr T min() { return is_signed ? T(-max() - 1) : T(0); }
  static constexpr T lowest() { return min(); }
  static constexpr T epsilon() { return T(0); }
  static constexpr T round_error() { return T(0); }
  static constexpr T infinity() { return T(0); }
  static constexpr T quiet_NaN() { return T(0); }
  static constexpr T signaling_NaN() { return T(0); }
  static constexpr T denorm_min() { return T(0); }
};
template <>
struct _numeric_limits_impl<bool> {
  static constexpr bool is_specialized = true, is_signed = false, is_integer = true, is_exact = true;
  static constexpr bool has_infinity = false, has_quiet_NaN = false, is_bounded = true;
  static constexpr int radix = 2, digits = 1, digits10 = 0;
  static constexpr bool max() { return true; }
  static constexpr bool min() { return false; }
  static constexpr bool lowest() { return false; }
};

#define MSL_FLOAT_LIMITS(T, bits, decimal, largest, exponent, smallest, eps, denormal)                   \
  template <>                                                                                            \
  struct _numeric_limits_impl<T> {                                                                       \
    static constexpr bool is_specialized = true, is_signed = true, is_integer = false, is_exact = false; \
    static constexpr bool has_infinity = true, has_quiet_NaN = true, has_signaling_NaN = true;           \
    static constexpr bool is_iec559 = true, is_bounded = true;                                           \
    static constexpr int radix = 2, digits = bits, digits10 = decimal;                                   \
    static constexpr int max_exponent = exponent, min_exponent = 3 - exponent;                           \
    static constexpr T max() { return T(largest); }                                                      \
    static constexpr T min() { return T(smallest); }                                                     \
    static constexpr T lowest() { return T(-largest); }                                                  \
    static constexpr T epsilon() { return T(eps); }                                                      \
    static constexpr T round_error() { return T(0.5f); }                                                 \
    static constexpr T infinity() { return T(__builtin_inff()); }                                        \
    static constexpr T quiet_NaN() { return T(__builtin_nanf("")); }                                     \
    static constexpr T signaling_NaN() { return T(__builtin_nanf("")); }                                 \
    static constexpr T denorm_min() { return T(denormal); }                                              \
  };
MSL_FLOAT_LIMITS(float, 24, 6, FLT_MAX, 128, FLT_MIN, FLT_EPSILON, 0x1.0p-149f)
MSL_FLOAT_LIMITS(half, 11, 3, 65504.0f, 16, 0x1.0p-14f, 0x1.0p-10f, 0x1.0p-24f)
MSL_FLOAT_LIMITS(bfloat, 8, 2, 0x1.fep127f, 128, 0x1.0p-126f, 0x1.0p-7f, 0x1.0p-133f)
#undef MSL_FLOAT_LIMITS

template <class T>
struct numeric_limits : _numeric_limits_impl<T> {};
template <class T>
struct numeric_limits<const T> : numeric_limits<T> {};

template <class To, class From>
MSL_FN constexpr To as_type(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "as_type: both types must have the same size");
  return __builtin_bit_cast(To, from);
}

}  // namespace metal

namespace msl_detail {

// An explicit conversion. Between half and bfloat, where the host's compiler has none, it goes by way of float.
template <class To, class From>
MSL_FN constexpr To convert(const From& from) {
  if constexpr ((metal::is_same_v<To, half> && metal::is_same_v<From, bfloat>) ||
                (metal::is_same_v<To, bfloat> && metal::is_same_v<From, half>))
    return To(float(from));
  else
    return To(from);
}

}  // namespace msl_detail
