// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#include "web.hpp"

#include <charconv>

namespace crawler {
namespace {

constexpr std::size_t branches = 4;
constexpr std::string_view name_prefix = "host-";
constexpr std::string_view name_suffix = ".test";

/// A number that looks like chance and is always the same (splitmix64).
std::uint64_t chance(web::place p, std::uint64_t what) {
  std::uint64_t n = (p.host * 1'000'003 + p.page) * 16 + what + 1;
  n *= 0x9e3779b97f4a7c15u;
  n = (n ^ (n >> 30)) * 0xbf58476d1ce4e5b9u;
  n = (n ^ (n >> 27)) * 0x94d049bb133111ebu;
  return n ^ (n >> 31);
}

std::optional<std::size_t> parse_index(std::string_view text, std::size_t count) {
  std::size_t n = 0;
  const char* const end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, n);
  if (error != std::errc{} || stopped != end || n >= count) return std::nullopt;
  return n;
}

std::string target_of(std::size_t page) {
  std::string target = "/";
  if (page != 0) target += std::to_string(page);
  return target;
}

std::string link(const std::string& to) { return "<li><a href=\"" + to + "\">" + to + "</a>\n"; }

std::string absolute(web::place p) { return "http://" + web::name_of(p.host) + target_of(p.page); }

} // namespace

std::string web::name_of(std::size_t host) {
  return std::string(name_prefix) + std::to_string(host) + std::string(name_suffix);
}

std::optional<web::place> web::find(std::string_view host, std::string_view target) const {
  if (!host.starts_with(name_prefix) || !host.ends_with(name_suffix)) return std::nullopt;
  host.remove_prefix(name_prefix.size());
  host.remove_suffix(name_suffix.size());
  const auto h = parse_index(host, hosts_);
  if (!h || !target.starts_with('/')) return std::nullopt;
  if (target == "/") return place{*h, 0};
  const auto p = parse_index(target.substr(1), pages_);
  if (!p || *p == 0) return std::nullopt;
  return place{*h, *p};
}

manner web::manner_of(place p) const {
  const bool is_end = p.page != 0 && branches * p.page + 1 >= pages_;
  if (!is_end) return manner::answers;
  if (p.page % 4 == 0 && p.host % 8 == 3) return manner::never_answers; // hosts in trouble
  if (p.page % 4 == 0 && p.host % 8 == 5) return manner::hangs_up;
  return chance(p, 0) % 20 == 0 ? manner::fails : manner::answers;
}

std::chrono::milliseconds web::latency_of(place p) const {
  const auto least = latency_ / 10;
  const auto more = static_cast<std::uint64_t>((latency_ - least).count());
  return least + std::chrono::milliseconds(chance(p, 1) % (more + 1));
}

std::string web::body_of(place p) const {
  std::string html = "<!DOCTYPE html>\n<title>" + absolute(p) + "</title>\n<ul>\n";
  html += link("/") + link("#top") + link("mailto:webmaster@" + name_of(p.host));
  for (std::size_t i = 1; i <= branches; ++i) {
    const std::size_t page = branches * p.page + i;
    const std::size_t host = branches * p.host + i;
    if (page < pages_) html += link(target_of(page));
    if (p.page == 0 && host < hosts_) html += link(absolute({host, 0}));
  }
  for (std::uint64_t i = 2; i != 5; ++i)
    html += link(absolute({chance(p, i) % hosts_, chance(p, i + 3) % pages_}) + "#top");
  return html + "</ul>\n";
}

std::map<manner, std::uint64_t> web::census() const {
  std::map<manner, std::uint64_t> result;
  for (std::size_t host = 0; host != hosts_; ++host)
    for (std::size_t page = 0; page != pages_; ++page) ++result[manner_of({host, page})];
  return result;
}

} // namespace crawler
