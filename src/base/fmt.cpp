// LibTorch ships fmt's headers but not its library. Compiled here once, its inner workings need not be compiled by every unit
// that formats a message, which halves the time of most. `treadle_fmt` in cmake/ decides whether the version at hand allows it.
#include <fmt/format-inl.h>

FMT_BEGIN_NAMESPACE
namespace detail {
template FMT_API auto dragonbox::to_decimal(float value) noexcept -> dragonbox::decimal_fp<float>;
template FMT_API auto dragonbox::to_decimal(double value) noexcept -> dragonbox::decimal_fp<double>;
template FMT_API auto thousands_sep_impl(locale_ref locale) -> thousands_sep_result<char>;
template FMT_API auto decimal_point_impl(locale_ref locale) -> char;
template FMT_API void buffer<char>::append(const char* first, const char* last);
}  // namespace detail
FMT_END_NAMESPACE
