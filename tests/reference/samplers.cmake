treadle_test(reference.samplers
  SOURCES samplers_test.cpp
  LABEL reference
  LIBRARIES treadle_data nlohmann_json::nlohmann_json)
