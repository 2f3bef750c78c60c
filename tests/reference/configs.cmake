treadle_test(reference.configs
  SOURCES configs_test.cpp configs_cases.cpp configs_expect.cpp
  LABEL reference
  LIBRARIES treadle_config nlohmann_json::nlohmann_json)
