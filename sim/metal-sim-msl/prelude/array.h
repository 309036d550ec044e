// <metal_array>: an aggregate of fixed size.
#pragma once

namespace metal {

template <class T, size_t N>
struct array {
  T elements[N];

  MSL_FN constexpr T& operator[](size_t i) { return elements[i]; }
  MSL_FN constexpr const T& operator[](size_t i) const { return elements[i]; }
  MSL_FN constexpr size_t size() const { return N; }
  MSL_FN constexpr bool empty() const { return N == 0; }
  MSL_FN constexpr T& front() { return elements[0]; }
  MSL_FN constexpr const T& front() const { return elements[0]; }
  MSL_FN constexpr T& back() { return elements[N - 1]; }
  MSL_FN constexpr const T& back() const { return elements[N - 1]; }
  MSL_FN constexpr T* data() { return elements; }
  MSL_FN constexpr const T* data() const { return elements; }
  MSL_FN constexpr T* begin() { return elements; }
  MSL_FN constexpr const T* begin() const { return elements; }
  MSL_FN constexpr T* end() { return elements + N; }
  MSL_FN constexpr const T* end() const { return elements + N; }
  MSL_FN constexpr void fill(const T& value) {
    for (T& element : elements) element = value;
  }
};

}  // namespace metal
