treadle_test(reference.hostile
  SOURCES hostile_test.cpp
  LABEL reference
  LIBRARIES treadle_checkpoint nlohmann_json::nlohmann_json)
