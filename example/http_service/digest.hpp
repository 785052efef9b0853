// Copyright (c) 2026 The Bulkhead authors
// Distributed under the Boost Software License, Version 1.0. (See accompanying file LICENSE_1_0.txt
// or copy at https://www.boost.org/LICENSE_1_0.txt)

#ifndef BULKHEAD_EXAMPLE_HTTP_SERVICE_DIGEST_HPP
#define BULKHEAD_EXAMPLE_HTTP_SERVICE_DIGEST_HPP

#include <boost/algorithm/hex.hpp>
#include <boost/asio/error.hpp>
#include <boost/system/system_error.hpp>

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <memory>
#include <stdexcept>
#include <stop_token>
#include <string>
#include <string_view>

#include <openssl/evp.h>

namespace http_service {

/// SHA-512, in lower-case hexadecimal, of what task `index` of a request has to hash: the first
/// `bytes` bytes of "<index>:<body>" repeated without end. So no two tasks hash the same, and
/// `yes '0:' | tr -d '\n' | head -c 65536 | sha512sum` is the answer for task 0 without a body.
///
/// Throws operation_aborted when `stop` is requested; it looks at that between two blocks.
inline std::string digest(std::size_t index, std::string_view body, std::uint64_t bytes,
                          std::stop_token stop = {}) {
  constexpr std::size_t min_block = 64 * 1024;

  std::string period = std::to_string(index) + ':';
  period += body.substr(0, bytes);
  std::string block = period; // whole periods, so that one block continues where the last ended
  while (block.size() < std::min<std::uint64_t>(bytes, min_block)) block += period;

  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                  EVP_MD_CTX_free);
  bool ok = context && EVP_DigestInit_ex(context.get(), EVP_sha512(), nullptr);
  while (ok && bytes > 0) {
    if (stop.stop_requested())
      throw boost::system::system_error(boost::asio::error::operation_aborted);
    const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(bytes, block.size()));
    ok = EVP_DigestUpdate(context.get(), block.data(), n);
    bytes -= n;
  }

  std::array<unsigned char, EVP_MAX_MD_SIZE> raw;
  unsigned int size = 0;
  if (!ok || !EVP_DigestFinal_ex(context.get(), raw.data(), &size))
    throw std::runtime_error("OpenSSL could not compute a SHA-512 digest");

  std::string hex;
  hex.reserve(2 * size);
  boost::algorithm::hex_lower(raw.data(), raw.data() + size, std::back_inserter(hex));
  return hex;
}

} // namespace http_service

#endif
