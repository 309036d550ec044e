// What the rewritten source and the table of its kernels use, beside metal_stdlib: casts, the values of arguments, and
// the list of threadgroup variables.
#pragma once

#include "metal.h"

#define MSL_EXPORT extern "C" __attribute__((visibility("default")))

// static_cast, with the ways between half and bfloat that the host's compiler does not have.
namespace msl_table {
template <class To, class From>
struct cast {
  static constexpr To from(const From& value) { return static_cast<To>(value); }
};
template <>
struct cast<half, bfloat> {
  static constexpr half from(bfloat value) { return half(float(value)); }
};
template <>
struct cast<bfloat, half> {
  static constexpr bfloat from(half value) { return bfloat(float(value)); }
};
}  // namespace msl_table

template <class To, class From>
inline __attribute__((always_inline, nodebug)) constexpr To msl_cast(const From& value) {
  return msl_table::cast<To, From>::from(value);
}

// The linker puts the descriptors of all threadgroup variables that were compiled into one row.
extern "C" __attribute__((weak, visibility("hidden"))) const msl_variable __start_msl_variables[];
extern "C" __attribute__((weak, visibility("hidden"))) const msl_variable __stop_msl_variables[];

namespace msl_table {

static inline const msl_variable* variables(uint32_t* count) {
  *count = static_cast<uint32_t>(__stop_msl_variables - __start_msl_variables);
  return __start_msl_variables;
}

// The size of what is pointed at; 0 if it has none.
template <class T, class = void>
struct size_of {
  static constexpr uint32_t value = 0;
};
template <class T>
struct size_of<T, decltype(void(sizeof(T)))> {
  static constexpr uint32_t value = sizeof(T);
};
template <>
struct size_of<void, void> {
  static constexpr uint32_t value = 0;
};
template <>
struct size_of<const void, void> {
  static constexpr uint32_t value = 0;
};

// A position as the type that the argument has: one number, or the first two or three.
template <class T>
struct parameter {
  static constexpr uint32_t size = sizeof(T);
  static T value(const uint32_t (&position)[3]) { return T(position[0]); }
  static T value(uint32_t number) { return T(number); }
};
template <template <class, int> class V, class T, int N>
struct parameter<V<T, N>> {
  static constexpr uint32_t size = sizeof(V<T, N>);
  static V<T, N> value(const uint32_t (&position)[3]) {
    V<T, N> result;
    for (int i = 0; i < N; i++) result[i] = T(i < 3 ? position[i] : 0);
    return result;
  }
};
template <class T>
struct parameter<T*> {
  static constexpr uint32_t size = size_of<T>::value;
  static T* memory(void* at) { return static_cast<T*>(at); }
};
template <class T>
struct parameter<T&> {
  static constexpr uint32_t size = sizeof(T);
  static T& memory(void* at) { return *static_cast<T*>(at); }
};

// The parameters of a function by number.
template <int N, class... A>
struct pick;
template <int N, class First, class... Rest>
struct pick<N, First, Rest...> : pick<N - 1, Rest...> {};
template <class First, class... Rest>
struct pick<0, First, Rest...> : parameter<First> {};

template <class F>
struct parameters;
template <class... A>
struct parameters<void (*)(A...)> {
  template <int N>
  using get = pick<N, A...>;
};

}  // namespace msl_table
