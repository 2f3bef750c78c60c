treadle_test(reference.samplers
  SOURCES samplers_test.cpp
  LABEL reference
  PRECOMPILED tensor
  LIBRARIES treadle_data nlohmann_json::nlohmann_json)
