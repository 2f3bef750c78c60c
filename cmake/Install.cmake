# What `cmake --install` puts into a prefix: the headers, one library for each room, the command, and a CMake package.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

get_property(rooms GLOBAL PROPERTY TREADLE_ROOMS)
list(TRANSFORM rooms PREPEND treadle_ OUTPUT_VARIABLE room_targets)

set(package_folder "${CMAKE_INSTALL_LIBDIR}/cmake/treadle")
install(TARGETS treadle ${room_targets} EXPORT treadle_targets
  LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}" ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}" FILE_SET HEADERS)
install(TARGETS treadle_command RUNTIME DESTINATION "${CMAKE_INSTALL_BINDIR}")
install(EXPORT treadle_targets NAMESPACE treadle:: DESTINATION "${package_folder}")
# The prefix may be moved; LibTorch stays where it is.
set_target_properties(treadle_command PROPERTIES
  INSTALL_RPATH "\$ORIGIN/../${CMAKE_INSTALL_LIBDIR};${LibTorch_PREFIX}/lib")
set_target_properties(${room_targets} PROPERTIES INSTALL_RPATH "\$ORIGIN;${LibTorch_PREFIX}/lib")

configure_package_config_file(cmake/treadle-config.cmake.in "${PROJECT_BINARY_DIR}/treadle-config.cmake" INSTALL_DESTINATION "${package_folder}")
write_basic_package_version_file("${PROJECT_BINARY_DIR}/treadle-config-version.cmake" COMPATIBILITY SameMinorVersion)
install(FILES "${PROJECT_BINARY_DIR}/treadle-config.cmake" "${PROJECT_BINARY_DIR}/treadle-config-version.cmake"
  "${PROJECT_SOURCE_DIR}/cmake/FindLibTorch.cmake" DESTINATION "${package_folder}")
