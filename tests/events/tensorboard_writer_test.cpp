#include <treadle/base/errors.hpp>
#include <treadle/events/event_storage.hpp>
#include <treadle/events/tensorboard_writer.hpp>
#include <treadle/image/image.hpp>

#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <nlohmann/json.hpp>
#include <protozero/pbf_reader.hpp>

#include "events/event_record.hpp"
#include "tests/events/scratch.hpp"
#include "tests/support/source_folder.hpp"

namespace treadle {
namespace {

using nlohmann::json;

template <class Number>
Number little_endian(std::string_view bytes) {
  Number number = 0;
  for (std::size_t i = 0; i < sizeof number; ++i) number |= static_cast<Number>(static_cast<unsigned char>(bytes[i])) << (8 * i);
  return number;
}

std::uint32_t unmasked(std::uint32_t masked) {
  const std::uint32_t rotated = masked - 0xA282EAD8U;
  return (rotated >> 17) | (rotated << 15);
}

/// The payloads of a file of TFRecords, every frame checked.
std::vector<std::string> records(const std::string& file) {
  std::vector<std::string> result;
  std::string_view rest = file;
  while (!rest.empty()) {
    const auto length = little_endian<std::uint64_t>(rest);
    EXPECT_EQ(unmasked(little_endian<std::uint32_t>(rest.substr(8))), crc32c(rest.substr(0, 8)));
    const std::string_view data = rest.substr(12, length);
    EXPECT_EQ(unmasked(little_endian<std::uint32_t>(rest.substr(12 + length))), crc32c(data));
    result.emplace_back(data);
    rest.remove_prefix(16 + length);
  }
  return result;
}

/// The scalars of a file as {"tag": [[step, value], …]}, "version", and the steps of restarts.
json scalars_of(const std::string& file) {
  json result = json::object();
  for (const std::string& record : records(file)) {
    std::int64_t step = 0;
    protozero::pbf_reader event(record);
    while (event.next()) {
      if (event.tag() == 1) {
        EXPECT_EQ(event.get_double(), 1234.5);
      } else if (event.tag() == 2) {
        step = event.get_int64();
      } else if (event.tag() == 3) {
        result["version"] = event.get_string();
      } else if (event.tag() == 7) {
        protozero::pbf_reader session = event.get_message();
        while (session.next(1)) EXPECT_EQ(session.get_enum(), 1);
        result["restart"].push_back(step);
      } else {
        protozero::pbf_reader summary = event.get_message();
        while (summary.next(1)) {
          protozero::pbf_reader value = summary.get_message();
          std::string tag;
          while (value.next()) {
            if (value.tag() == 1)
              tag = value.get_string();
            else if (value.tag() == 2)
              result[tag].push_back({step, value.get_float()});
            else
              value.skip();
          }
        }
      }
    }
  }
  return result;
}

TensorBoardWriterOptions options_for(const std::filesystem::path& folder) {
  return {.folder = folder, .clock = [] { return 1234.5; }};
}

TEST(Crc32c, ChecksItsStandardVectors) {
  EXPECT_EQ(crc32c(""), 0U);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283U);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAU);  // RFC 3720, B.4
}

TEST(TensorBoardWriter, WritesScalars) {
  const ScratchFolder folder;
  TensorBoardWriterOptions options = options_for(folder / "new/tb");
  options.window = 2;
  TensorBoardWriter writer(options);
  EventStorage storage;
  for (int i = 0; i < 4; ++i, storage.step()) storage.put_scalar("loss", i);
  storage.put_scalar("AP", 5, false, 1);
  storage.put_scalar("AP", 6, false, 3);
  writer.write(storage);
  const std::string once = read_text(writer.file());
  EXPECT_EQ(scalars_of(once), json::parse(R"({"version": "brain.Event:2", "loss": [[3, 2.5]], "AP": [[1, 5.0], [3, 6.0]]})"));
  writer.write(storage);
  EXPECT_EQ(read_text(writer.file()), once);
  writer.close();
  writer.close();
  EXPECT_EQ(read_text(writer.file()), once);
}

TEST(TensorBoardWriter, AResumedRunForgetsLaterSteps) {
  const ScratchFolder folder;
  EventStorage storage(4);
  TensorBoardWriter first(options_for(folder.path()));
  storage.put_scalar("AP", 1, false);
  first.write(storage);
  const Dict state = first.state_dict();
  storage.put_scalar("AP", 2, false, 9);
  first.write(storage);

  EventStorage resumed(4);
  resumed.put_scalar("AP", 1, false);
  TensorBoardWriter second(options_for(folder.path()));
  EXPECT_LT(first.file().filename(), second.file().filename());
  second.check_state_dict(state);
  second.load_state_dict(state);
  resumed.put_scalar("AP", 3, false, 9);
  second.write(resumed);
  EXPECT_EQ(scalars_of(read_text(second.file())),
            json::parse(R"({"version": "brain.Event:2", "restart": [5], "AP": [[9, 3.0]]})"));
  EXPECT_THROW(second.check_state_dict({}), FormatError);
  EXPECT_THROW(second.check_state_dict({{"last_step", 1}, {"cursor", 2}}), FormatError);
}

TEST(TensorBoardWriter, GoesBackAfterItWasClosed) {
  const ScratchFolder folder;
  TensorBoardWriterOptions options = options_for(folder.path());
  options.hparams = {{"lr", 0.1}};
  TensorBoardWriter writer(options);
  EventStorage storage(4);
  storage.put_scalar("AP", 1, false);
  writer.write(storage);
  const Dict events = deep_clone(storage.state_dict()), state = writer.state_dict();
  storage.put_scalar("AP", 2, false, 9);
  writer.write(storage);
  writer.close();
  storage.load_state_dict(events);
  writer.load_state_dict(state);
  storage.put_scalar("AP", 3, false, 9);
  writer.write(storage);
  const json found = scalars_of(read_text(writer.file()));
  EXPECT_EQ(found.at("restart"), json::parse("[5]"));
  EXPECT_EQ(found.at("AP"), json::parse("[[4, 1.0], [9, 2.0], [9, 3.0]]"));

  // A load opens the session again, which a close then ends.
  writer.close();
  const std::size_t ended = records(read_text(writer.file())).size();
  writer.load_state_dict(state);
  writer.close();
  EXPECT_EQ(records(read_text(writer.file())).size(), ended + 2);
  std::filesystem::remove(writer.file());
  std::filesystem::create_directory(writer.file());
  const Dict before = writer.state_dict();
  EXPECT_THROW(writer.load_state_dict({{"last_step", 77}, {"cursor", state.at("cursor")}}), IoError);
  EXPECT_TRUE(identical(writer.state_dict(), before));
}

TEST(TensorBoardWriter, RefusesBadOptions) {
  const ScratchFolder folder;
  EXPECT_THROW(TensorBoardWriter({}), ConfigError);
  EXPECT_THROW(TensorBoardWriter({.folder = folder.path(), .window = 0}), ConfigError);
  EXPECT_THROW(TensorBoardWriter({.folder = folder.path(), .hparams = {{"list", List{}}}}), ConfigError);
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  write_text(folder / "file", "");
  EXPECT_THROW(TensorBoardWriter({.folder = folder / "file"}), IoError);
}

/// What the tensorboard package reads in `folder`.
json read_with_tensorboard(const std::string& python, const std::filesystem::path& folder) {
  const std::string command =
      "'" + python + "' " + source_folder() + "/tests/events/tensorboard_reader.py '" + folder.string() + "'";
  std::string text;
  FILE* pipe = popen(command.c_str(), "r");
  for (int c; (c = std::fgetc(pipe)) != EOF;) text += static_cast<char>(c);
  EXPECT_EQ(pclose(pipe), 0) << command;
  return json::parse(text);
}

/// A picture of 2 rows and 3 columns.
at::Tensor pixels() { return at::arange(2 * 3 * 3, at::kByte).reshape({2, 3, 3}); }

at::Tensor decoded(const std::string& hex) {
  std::string bytes;
  for (std::size_t i = 0; i < hex.size(); i += 2) bytes += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
  return decode_image(bytes).pixels();
}

TEST(TensorBoardWriter, AFolderThatCannotBeListedIsAnIoError) {
  const ScratchFolder folder;
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  // Permissions do not stop root; that no file can be opened does.
  rlimit none = before;
  none.rlim_cur = 0;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  std::exception_ptr thrown;
  try {
    TensorBoardWriter({.folder = folder.path()});
  } catch (...) {
    thrown = std::current_exception();
  }
  // Nobody may look at the error before: a sanitizer opens files for that.
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_TRUE(thrown);
  int number = 0;
  std::string problem;
  try {
    std::rethrow_exception(thrown);
  } catch (const IoError& error) {
    number = error.error_number();
    problem = error.what();
  } catch (const std::exception& error) {
    problem = error.what();
  }
  EXPECT_EQ(number, EMFILE) << problem;
  EXPECT_NE(problem.find("list the folder"), std::string::npos) << problem;
}

TEST(TensorBoardWriter, TakesImagesAndHistogramsFromTheStorage) {
  const ScratchFolder folder;
  TensorBoardWriter writer(options_for(folder.path()));
  EventStorage storage(7);
  storage.put_image("picture", pixels());
  storage.put_histogram("weights", at::tensor({0.0, 1.0, 1.5, 4.0}), 4);
  writer.write(storage);
  EXPECT_TRUE(storage.images().empty());
  EXPECT_TRUE(storage.histograms().empty());
  EXPECT_EQ(writer.state_dict().at("last_step").as_int(), 7);
  const auto found = records(read_text(writer.file()));
  ASSERT_EQ(found.size(), 3U);
  const std::size_t png = found[1].find("\x89PNG");
  ASSERT_NE(png, std::string::npos);
  EXPECT_TRUE(decode_image(found[1].substr(png)).pixels().equal(pixels()));
  EXPECT_NE(found[2].find("weights"), std::string::npos);
}

TEST(TensorBoardWriter, TheTensorboardPackageReadsItBack) {
  const char* python = std::getenv("TREADLE_PYTHON");
  if (python == nullptr) GTEST_SKIP() << "TREADLE_PYTHON does not name a Python with the tensorboard package";
  if (std::system((std::string(python) + " -c 'import tensorboard' 2>/dev/null").c_str()) != 0) {
    GTEST_SKIP() << python << " has no tensorboard package";
  }
  const ScratchFolder folder;
  TensorBoardWriterOptions options = options_for(folder.path());
  options.hparams = {{"lr", 0.1}, {"steps", 90}, {"nesterov", true}, {"model", "cnn"}};
  options.hparam_metrics = {"AP"};
  EventStorage storage(3);
  Dict state;
  {
    TensorBoardWriter first(options);
    storage.put_scalar("AP", 1, false);
    storage.put_image("picture", pixels());
    storage.put_histogram("weights", at::tensor({0.0, 1.0, 1.5, 4.0}), 4);
    first.write(storage);
    state = first.state_dict();
    storage.put_scalar("AP", 99, false, 8);
    first.write(storage);
    first.close();
  }
  EventStorage resumed(3);
  resumed.put_scalar("AP", 1, false);
  TensorBoardWriter second(options_for(folder.path()));
  second.load_state_dict(state);
  resumed.put_scalar("AP", 2, false, 8);
  second.write(resumed);
  second.close();

  const json found = read_with_tensorboard(python, folder.path());
  EXPECT_EQ(found.at("version"), 2.0);
  EXPECT_EQ(found.at("hparams"),
            json::parse(R"({"infos": [["lr", 3], ["steps", 3], ["nesterov", 2], ["model", 1]], "metrics": ["AP"],
                                                 "values": {"lr": 0.1, "steps": 90.0, "nesterov": true, "model": "cnn"}, "status": 1})"));
  EXPECT_EQ(found.at("scalars"), json::parse(R"({"AP": [[3, 1.0], [8, 2.0]]})"));
  EXPECT_EQ(found.at("histograms"),
            json::parse(R"({"weights": [[3, 0.0, 4.0, 4.0, 6.5, [1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 0.0, 1.0]]]})"));
  const json& picture = found.at("images").at("picture").at(0);
  EXPECT_EQ(json({picture[0], picture[1], picture[2]}), json({3, 3, 2}));
  EXPECT_TRUE(decoded(picture[3]).equal(pixels()));
}

}  // namespace
}  // namespace treadle
